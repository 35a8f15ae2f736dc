"""Airflow itself: four daemons on the sandbox's metadata database, with every connection that the plan names."""

from __future__ import annotations

import base64
import json
import os
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandbox.airflow_client import AirflowClient, AirflowError
from sandbox.processes import Process, run
from sandbox.services.component import Component, Context
from sandbox.services.connections import connections
from sandbox.services.postgres import bin_dir
from sandbox.settings import REPOSITORY, ROLES, SandboxError, Settings

DAEMONS = ("api-server", "scheduler", "dag-processor", "triggerer")
AUTOMATION = "automation"
"""The user with which callbacks start the rollback."""
READY_SECONDS = 240
WATCHDOG_POOL = "watchdog"
_NO_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


class Airflow(Component):
    """API server, scheduler, DAG processor and triggerer; ready once every DAG file can be seen over REST."""

    name = "airflow"
    needs = ("metadata",)
    grace_seconds = 5.0
    """The tasks that still run belong to a sandbox that is going away."""

    def start(self, context: Context) -> None:
        settings = context.settings
        _write_passwords(settings)
        env = environment(settings)
        daemons = [
            context.own(Process(f"airflow-{name}", command(name), settings.log(f"airflow-{name}"), env=env))
            for name in DAEMONS
        ]
        client = AirflowClient(settings.url("airflow"), "admin", settings.secrets.airflow_password("admin"))
        deadline = time.monotonic() + READY_SECONDS
        for reason in (unhealthy, unseen_files):
            _wait(client, reason, daemons, deadline)
        client.make_pool(WATCHDOG_POOL, 16)
        for error in client.import_errors():
            last = str(error["stack_trace"]).strip().splitlines()[-1]
            context.warn(f"dags/{Path(error['filename']).name} cannot be imported: {last}")


def command(daemon: str) -> list[str]:
    """Task logs lie in one folder that every daemon reads: no log server is needed, and none opens a port."""
    serve_no_logs = ["--skip-serve-logs"] if daemon in ("scheduler", "triggerer") else []
    return [sys.executable, "-m", "airflow", daemon, *serve_no_logs]


def _wait(
    client: AirflowClient, missing: Callable[[AirflowClient], str], daemons: list[Process], deadline: float
) -> None:
    while True:
        for daemon in daemons:
            daemon.check()
        try:
            reason = missing(client)
        except AirflowError as error:
            reason = str(error)
        if not reason:
            return
        if time.monotonic() > deadline:
            raise SandboxError(
                f"Airflow is not ready after {READY_SECONDS} s: {reason}; its logs: {daemons[0].log.parent}"
            )
        time.sleep(0.2)


def unhealthy(client: AirflowClient) -> str:
    """The components that are not healthy yet, or nothing."""
    health = client.health()
    return ", ".join(
        f"{name} is {part.get('status') or 'not seen yet'}" for name, part in health.items()
        if part is None or part.get("status") != "healthy"
    )  # fmt: skip


def unseen_files(client: AirflowClient) -> str:
    """The DAG files that have brought neither a DAG nor an import error yet, or nothing."""
    seen = {Path(dag["relative_fileloc"]).name for dag in client.dags()}
    seen |= {Path(error["filename"]).name for error in client.import_errors()}
    files = {path.name for path in (REPOSITORY / "dags").glob("*.py") if _may_hold_dags(path)}
    return ", ".join(f"dags/{name} has not been read yet" for name in sorted(files - seen))


def _may_hold_dags(path: Path) -> bool:
    """Airflow's own guess (`[core] dag_discovery_safe_mode`)."""
    content = path.read_bytes().lower()
    return b"dag" in content and b"airflow" in content


def migrate(settings: Settings) -> None:
    """Lay Airflow's tables."""
    run(
        [sys.executable, "-m", "airflow", "db", "migrate"], what="airflow db migrate",
        log=settings.log("airflow-migrate"), env=environment(settings),
    )  # fmt: skip


def environment(settings: Settings) -> dict[str, str]:
    """What Airflow's processes get: configuration, connections, PostgreSQL's programs first on the path; no proxies."""
    env = {
        key: value for key, value in os.environ.items()
        if not key.startswith(("AIRFLOW", "PG")) and key.lower() not in _NO_PROXIES
    }  # fmt: skip
    env |= {
        "AIRFLOW_HOME": str(settings.folder("airflow")),
        "PATH": os.pathsep.join([str(bin_dir()), str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join(str(REPOSITORY / name) for name in ("config", "plugins")),
        "PYTHONUNBUFFERED": "1",
    }
    env |= {f"AIRFLOW__{key.upper()}": value for key, value in _configuration(settings).items()}
    env |= {f"AIRFLOW_CONN_{key.upper()}": json.dumps(value) for key, value in connections(settings).items()}
    env["HANDOVER_EVIDENCE_KEY"] = settings.secrets.evidence
    if settings.overlay:
        env["PMS_PLAN_OVERLAY"] = str(settings.overlay.resolve())
    if settings.plans:
        env["PMS_PLANS"] = str(settings.plans.resolve())
    return env


def _configuration(settings: Settings) -> dict[str, str]:
    """Airflow's settings as section__key; why each differs from the default stands beside it."""
    database = settings.dsn("metadata", "airflow", "airflow", settings.secrets.airflow_database)
    users = {"admin": "admin", AUTOMATION: "op", **dict.fromkeys(ROLES, "op")}
    home = settings.folder("airflow")
    return {
        "core__dags_folder": str(REPOSITORY / "dags"),
        "core__plugins_folder": str(REPOSITORY / "plugins"),
        "core__executor": "LocalExecutor",
        "core__parallelism": "16",
        "core__load_examples": "False",
        "core__dags_are_paused_at_creation": "False",
        "core__fernet_key": _fernet_key(settings),
        "core__hostname_callable": "socket.gethostname",  # the default asks the name service
        "core__test_connection": "Disabled",
        "core__execution_api_server_url": f"{settings.url('airflow')}/execution/",
        "core__simple_auth_manager_users": ",".join(f"{user}:{role}" for user, role in users.items()),
        "core__simple_auth_manager_passwords_file": str(home / "passwords.json"),
        "core__simple_auth_manager_all_admins": "False",
        "database__sql_alchemy_conn": database.replace("postgresql://", "postgresql+psycopg2://"),
        "database__sql_alchemy_conn_async": database.replace("postgresql://", "postgresql+asyncpg://").replace(
            "sslmode=", "ssl="
        ),
        "api__host": settings.host("airflow"),
        "api__port": str(settings.port("airflow")),
        "api__base_url": settings.url("airflow"),
        "api__workers": "1",
        "api__expose_config": "False",
        "api__secret_key": secrets.token_hex(32),
        "api_auth__jwt_secret": settings.secrets.jwt,
        "scheduler__scheduler_idle_sleep_time": "0.1",  # the gap between two tasks; 1 s by default
        "scheduler__task_instance_heartbeat_timeout": "30",  # 300 s before a dead task is noticed are too many
        "scheduler__task_instance_heartbeat_timeout_detection_interval": "5",
        "dag_processor__refresh_interval": "5",
        "dag_processor__bundle_refresh_check_interval": "2",
        "dag_processor__parsing_processes": "1",
        "logging__base_log_folder": str(settings.folder("logs", "airflow")),
        "logging__colored_console_log": "False",
        "logging__dag_processor_child_process_log_directory": str(settings.folder("logs", "airflow", "dag_processor")),
        "usage_data_collection__enabled": "False",  # the sandbox talks to loopback only
    }


def _fernet_key(settings: Settings) -> str:
    """The same for every process of one run."""
    return base64.urlsafe_b64encode(bytes.fromhex(settings.secrets.jwt)[:32]).decode()


def _write_passwords(settings: Settings) -> None:
    passwords: dict[str, Any] = {
        user: settings.secrets.airflow_password(user) for user in ("admin", AUTOMATION, *ROLES)
    }
    path = settings.folder("airflow") / "passwords.json"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(passwords, file)
