"""Who brings a service by the commands of docs/adopt.md: what is typed and written on the way is counted."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sandbox.airflow_client import AirflowClient
from sandbox.processes import POLL_SECONDS
from sandbox.services.access import Access
from sandbox.services.airflow import environment
from sandbox.settings import SandboxError, Settings

COMMAND_SECONDS, READ_SECONDS, RUN_SECONDS = 300, 120, 300
Object = dict[str, Any]


class Person:
    """Works where Airflow is set up. ``typed``: commands so far, a form of Airflow's UI among them; ``lines``: written
    by hand, of any file.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        if settings.plans is None:
            raise SandboxError("a person writes into a folder of plans, and this sandbox has the repository's")
        self.name, self._settings, self._include = name, settings, settings.plans.parent
        self.typed: list[str] = []
        self.lines = 0

    def kubeconfig(self, found: Access) -> str:
        """The one that the person has anyway."""
        path = self._settings.home / f"{self.name}.kubeconfig"
        cluster = {"server": found.url} | ({"certificate-authority": found.ca} if found.ca else {})
        content = {
            "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": {"token": found.token}}],
        }  # fmt: skip
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(content))
        return str(path)

    def types(self, *arguments: str) -> str:
        """``python -m handover`` with these arguments; gives what it printed. Raises `SandboxError`."""
        self.typed.append(f"python -m handover {' '.join(arguments)}")
        argv = [sys.executable, "-m", "handover", *arguments]
        done = subprocess.run(
            argv, env=environment(self._settings), capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
        )
        if done.returncode:
            raise SandboxError(f"{self.typed[-1]}: {done.stderr.strip()}")
        return done.stdout

    def writes(self, sections: Object, connections: Mapping[str, Object]) -> None:
        """What only a person knows: sections of the plan, and connections."""
        if sections:
            text = yaml.safe_dump(sections, sort_keys=False)
            with (self._include / "plans" / f"{self.name}.yaml").open("a") as plan:
                plan.write(f"\n{text}")
            self.lines += len(text.splitlines())
        if connections:
            self._connections.write_text(json.dumps(self.connections | dict(connections), indent=2))
            self.lines += len(json.dumps(dict(connections), indent=2).splitlines()) - 2  # the braces are there

    def begins(self, dag: str, asked: Object, admin: AirflowClient) -> None:
        """Fills in a DAG's form once Airflow has read the plan, and waits. Raises `SandboxError`, also for a run that
        fails.
        """
        deadline = time.monotonic() + READ_SECONDS
        while dag not in {one["dag_id"] for one in admin.dags()}:
            if time.monotonic() > deadline:
                raise SandboxError(f"Airflow has not read {dag} after {READ_SECONDS} s: {admin.import_errors()}")
            time.sleep(POLL_SECONDS)
        self.typed.append(f"Airflow: Dags > {dag} > Trigger, with version and reason")
        run_id = admin.trigger(dag, asked)
        if (state := admin.wait_for_run(dag, run_id, RUN_SECONDS)) != "success":
            raise SandboxError(f"{dag} {run_id}: {state} {admin.task_states(dag, run_id)}")

    @property
    def connections(self) -> dict[str, Object]:
        """As they were drafted, with what was found out and written since."""
        return dict(json.loads(self._connections.read_text()))

    @property
    def _connections(self) -> Path:
        return self._include / "connections" / f"{self.name}.json"
