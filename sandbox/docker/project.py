"""docker-compose.yaml as its users have it: a copy of the repository's files, .env made by the script, and a team."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.docker.host import DockerHost
from sandbox.services.connections import connections
from sandbox.settings import REPOSITORY, ROLES, Settings

FILES = (
    "docker-compose.yaml", "Dockerfile", ".dockerignore", "requirements/lock.txt", "scripts/make_env.py", "config",
    "dags", "include", "plugins",
)  # fmt: skip
URL = "http://127.0.0.1:8080"
"""Of the UI, on the Docker host."""
PRODUCTION = "/opt/airflow/production"
"""Where containers find the folder `production`."""
_IGNORED = shutil.ignore_patterns("__pycache__")


@dataclass(frozen=True)
class Project:
    """The folder of docker-compose.yaml, shared with a Docker host."""

    host: DockerHost
    folder: Path

    def compose(self, *argv: str) -> str:
        """``compose("up", "-d")``; raises SandboxError."""
        return self.host.run("docker", "compose", "--ansi=never", f"--project-directory={self.folder}", *argv)

    def objects(self) -> dict[str, list[str]]:
        """All containers, networks and volumes of the Docker host, by name."""
        lists = {
            "container": ["container", "ls", "--all", "--format={{.Names}}"],
            "network": ["network", "ls", "--format={{.Name}}"],
            "volume": ["volume", "ls", "--format={{.Name}}"],
        }
        return {kind: sorted(self.host.run("docker", *argv).split()) for kind, argv in lists.items()}

    @property
    def endpoints(self) -> dict[str, Any]:
        """What `Team` needs."""
        accounts = json.loads(variables(self.folder)["HANDOVER_ACCOUNTS"])
        users = {role: {"user": role, "password": accounts[role]["password"]} for role in ROLES}
        return {"airflow": {"url": URL, "user": "admin", "password": accounts["admin"]["password"], "users": users}}


def variables(folder: Path) -> dict[str, str]:
    """Those of .env."""
    lines = (folder / ".env").read_text().splitlines()
    return {name: value.strip("'") for name, value in (line.split("=", 1) for line in lines)}


def lay_out(folder: Path) -> None:
    """The files of the repository that Docker gets to see, and what scripts/make_env.py adds."""
    for name in FILES:
        source, target = REPOSITORY / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target, ignore=_IGNORED) if source.is_dir() else shutil.copy(source, target)
    subprocess.run([sys.executable, folder / "scripts" / "make_env.py"], check=True, capture_output=True)


def fill_in(folder: Path, settings: Settings, kubeconfig: Path, overlay: Path) -> None:
    """Connections to the sandbox's production, as people write them to production/; only the clocks run faster."""
    values = connections(settings)
    del values["pms_airflow"]  # make_env.py has made it
    values["pms_kubernetes"]["extra"]["kube_config_path"] = f"{PRODUCTION}/kubeconfig"
    lines = [f"AIRFLOW_CONN_{name.upper()}='{json.dumps(value)}'" for name, value in values.items()]
    (folder / "production" / "airflow.env").write_text("\n".join([*lines, ""]))
    (folder / "production" / "settings.env").write_text("PMS_PLAN_OVERLAY=/opt/airflow/include/overlay.yaml\n")
    user = int(variables(folder)["AIRFLOW_UID"])
    for source, target in (
        (kubeconfig, folder / "production" / "kubeconfig"), (overlay, folder / "include" / "overlay.yaml"),
    ):  # fmt: skip
        shutil.copy(source, target)
        target.chmod(0o600)
        os.chown(target, user, -1)
