"""Airflow's own API server with the auth manager and the settings that docker-compose.yaml ships: in a process of its
own, on an empty PostgreSQL database, with the repository's DAGs read. No scheduler: nothing that is started runs.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from handover.adapters.postgres import Database
from sandbox.settings import REPOSITORY

SERVICES = yaml.safe_load((REPOSITORY / "docker-compose.yaml").read_text())["services"]
FOLDERS = ("AIRFLOW__CORE__DAGS_FOLDER", "AIRFLOW__CORE__PLUGINS_FOLDER")
OF_THE_PLACE = ("DATABASE", "CELERY", "CORE__EXECUTOR", "CORE__FERNET_KEY", "API__", "JWT_", "EXECUTION_API")
"""Settings that say where things are: those of a test are others."""
DEPLOYMENT = {"version": "v1.1.0", "reason": "because of the test"}
"""What the form of a deployment asks for."""
ASKED = "asked"
"""The run of the deployment in which people are asked."""
QUEUED = ("pms_announcements", "queued", "release")
"""DAG, run and task of the step that waits for a worker."""
WORKLOAD = "workload.json"
RUN_IT = "import sys; from airflow.executors.base_executor import BaseExecutor as E; \
from airflow.executors.workloads import ExecuteTask as T; E.run_workload(T.model_validate_json(sys.stdin.read()))"
"""What a Celery worker does with it."""
JWT_SECRET = secrets.token_hex(48)
AUTOMATION = ("automation", secrets.token_hex(16))


@dataclass(frozen=True)
class Api:
    """``passwords``: of everybody; ``environment``: of a command beside the server."""

    url: str
    passwords: dict[str, str]
    environment: Mapping[str, str]

    def client(self, name: str = "", *, token: str = "", address: str = "127.0.0.1") -> httpx.Client:
        """Signed in; with neither, nobody. ``address``: from where the server is asked."""
        transport = httpx.HTTPTransport(local_address=address)
        headers = {"Authorization": f"Bearer {token or self.token(name)}"} if token or name else {}
        return httpx.Client(base_url=self.url, transport=transport, timeout=None, headers=headers)

    def token(self, name: str) -> str:
        with self.client() as client:
            return str(sign_in(client, name, self.passwords[name]).raise_for_status().json()["access_token"])

    def accounts(self, people: Mapping[str, object], **settings: str) -> subprocess.CompletedProcess[str]:
        """``python -m handover accounts`` on this server's database."""
        environment = {**self.environment, "HANDOVER_ACCOUNTS": json.dumps(people), **settings}
        return subprocess.run(
            [sys.executable, "-m", "handover", "accounts"], env=environment, capture_output=True, text=True, check=False
        )

    def work(self) -> subprocess.CompletedProcess[str]:
        """Runs the step that waits with what docker-compose.yaml gives a worker, and nothing else."""
        folder = Path(self.environment["AIRFLOW_HOME"])
        given = {
            name: self.environment.get(name, value) for name, value in SERVICES["worker"]["environment"].items()
            if name.startswith(("AIRFLOW_CONN", "HANDOVER")) or not any(part in name for part in OF_THE_PLACE)
        }  # fmt: skip
        environment = {
            **{name: self.environment[name] for name in ("PATH", "PYTHONPATH", *FOLDERS)}, **given,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/", "AIRFLOW_HOME": str(folder / "worker"),
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(folder / "worker" / "logs"), "HOME": str(folder),
        }  # fmt: skip
        return subprocess.run(
            [sys.executable, "-c", RUN_IT], env=environment, input=(folder / WORKLOAD).read_text(), cwd=REPOSITORY,
            capture_output=True, text=True, check=False,
        )  # fmt: skip


def sign_in(client: httpx.Client, name: str, password: str) -> httpx.Response:
    return client.post("/auth/token", json={"username": name, "password": password})


def shipped() -> dict[str, str]:
    """Airflow's settings as docker-compose.yaml has them for the API server, without what belongs to a place."""
    given: Mapping[str, str] = SERVICES["apiserver"]["environment"]
    return {
        name: value for name, value in given.items()
        if name.startswith("AIRFLOW__") and not any(part in name for part in OF_THE_PLACE)
    }  # fmt: skip


def settings(
    folder: Path, database: Database, people: Mapping[str, list[str]], passwords: Mapping[str, str]
) -> dict[str, str]:
    """The whole environment of such a server."""
    login, password = AUTOMATION
    address = f"{database.user}:{database.password}@{database.host}:{database.port}/{database.name}"
    accounts = {name: {"password": passwords[name], "roles": roles} for name, roles in people.items()}
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(str(REPOSITORY / part) for part in ("config", "plugins", ".")),
        **shipped(),
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{address}",
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
        "AIRFLOW__API_AUTH__JWT_SECRET": JWT_SECRET,
        "AIRFLOW_CONN_PMS_AIRFLOW": json.dumps({"conn_type": "http", "login": login, "password": password}),
        "AIRFLOW_CONN_PMS_KUBERNETES": json.dumps({"conn_type": "kubernetes", "extra": {"kube_config_path": "/none"}}),
        "HANDOVER_ACCOUNTS": json.dumps(accounts),
        "HOME": str(folder),
    }


@contextmanager
def running(folder: Path, database: Database, people: Mapping[str, list[str]]) -> Iterator[Api]:
    """``people``: name to roles. Ready when it is given; gone afterwards."""
    passwords = {name: secrets.token_hex(16) for name in people}
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    log, environment = folder / "server.log", settings(folder, database, people, passwords)
    ready, tell = os.pipe()
    with log.open("w") as output, open(ready) as ready_file:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.airflow_api", str(port), str(tell)], cwd=REPOSITORY, env=environment,
            stdout=output, stderr=output, pass_fds=[tell],
        )  # fmt: skip
        os.close(tell)
        try:
            if ready_file.read() != "ready":  # until it says so, or has ended
                raise RuntimeError(f"Airflow's API server did not start:\n{log.read_text()[-3000:]}")
            yield Api(f"http://127.0.0.1:{port}", {**passwords, AUTOMATION[0]: AUTOMATION[1]}, environment)
        finally:
            process.terminate()
            process.wait(30)


def lay_tables() -> None:
    from airflow.utils.db import initdb

    initdb()


def read_dags() -> None:
    """What the DAG processor does."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    folder = REPOSITORY / "dags"
    DagBundlesManager().sync_bundles_to_db()
    bag = DagBag(folder, bundle_path=folder, bundle_name="dags-folder")
    assert not bag.import_errors, bag.import_errors
    sync_bag_to_db(bag, "dags-folder", None)


def begun(session: Any, dag_id: str, run_id: str, conf: Mapping[str, str]) -> Any:
    """A run that runs."""
    from airflow.models.dagbag import DBDagBag
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    from handover import clock

    return (
        DBDagBag()
        .get_latest_version_of_dag(dag_id, session=session)
        .create_dagrun(
            run_id=run_id, logical_date=None, data_interval=None, run_after=clock.utc(), conf=dict(conf),
            run_type=DagRunType.MANUAL, triggered_by=DagRunTriggeredByType.TEST, state=DagRunState.RUNNING,
            session=session,
        )
    )  # fmt: skip


def ask(people: Iterable[str]) -> None:
    """A deployment in which everybody is asked something, `own`, and something else that somebody else is asked."""
    from airflow.models.hitl import HITLDetail
    from airflow.utils.session import create_session
    from airflow.utils.state import TaskInstanceState

    questions = [(kind, name) for name in people for kind in ("own", "other")]
    with create_session() as session:
        run = begun(session, "pms_deployment", ASKED, DEPLOYMENT)
        for (kind, name), task in zip(questions, run.get_task_instances(session=session), strict=False):
            task.state = TaskInstanceState.AWAITING_INPUT
            asked = name if kind == "own" else "somebody"
            session.add(
                HITLDetail(
                    ti_id=task.id, subject=f"{kind} {name}", options=["Proceed", "Rollback"], params={},
                    assignees=[{"id": asked, "name": asked}],
                )
            )  # fmt: skip


def queue(file: Path) -> None:
    """Writes down what the scheduler would give to a worker: the first step of an announcement."""
    from airflow.executors.base_executor import BaseExecutor
    from airflow.executors.workloads import ExecuteTask
    from airflow.utils.session import create_session
    from airflow.utils.state import TaskInstanceState

    with create_session() as session:
        run = begun(session, QUEUED[0], QUEUED[1], {"version": "v1.1.0"})
        task = next(one for one in run.get_task_instances(session=session) if one.task_id == QUEUED[2])
        task.state = TaskInstanceState.QUEUED
        session.flush()
        file.write_text(ExecuteTask.make(task, generator=BaseExecutor().jwt_generator).model_dump_json())


def serve(port: int, tell: int) -> None:
    """Says "ready" to the file ``tell`` once it listens."""
    import uvicorn
    from airflow.api_fastapi.app import create_app

    class Server(uvicorn.Server):
        async def startup(self, *args: object, **kwargs: object) -> None:
            await super().startup(*args, **kwargs)
            os.write(tell, b"ready")
            os.close(tell)

    Server(uvicorn.Config(create_app(), host="127.0.0.1", port=port, log_level="warning")).run()


if __name__ == "__main__":
    from handover.cli.accounts import main as accounts

    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    lay_tables()
    if code := accounts("accounts", []):
        sys.exit(code)
    read_dags()
    ask([*json.loads(os.environ["HANDOVER_ACCOUNTS"]), AUTOMATION[0]])
    queue(Path(os.environ["AIRFLOW_HOME"]) / WORKLOAD)
    serve(int(sys.argv[1]), int(sys.argv[2]))
