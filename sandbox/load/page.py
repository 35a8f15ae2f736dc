"""The page's server as a process of its own, so that what it costs is nobody else's: everything that Airflow's API
server does for the page but the login. The cluster that it looks at is `sandbox.load.cluster`.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

STEP = {
    "task_id": "phase_5_monitoring.stabilization", "state": "deferred", "start_date": None, "try_number": 1,
}  # fmt: skip
"""What Airflow says is under way."""
QUESTIONS = "/api/v2/dags/~/dagRuns/~/hitlDetails"


class OneStep:
    """An Airflow in which one step of the deployment is under way."""

    def get(self, _path: str, **_params: Any) -> Any:
        return {"task_instances": [STEP]}


async def _serve(kubeconfig: str, told: Connection) -> None:
    import uvicorn

    from handover.adapters.kubernetes import connect_with_kubeconfig
    from handover.outside import Outside, standing_in
    from handover.ports.kube import Kube

    def kube(_connection: str, namespace: str) -> AbstractAsyncContextManager[Kube]:
        return connect_with_kubeconfig(kubeconfig, namespace)

    airflow: Any = OneStep()
    config = uvicorn.Config(_app(), host="127.0.0.1", port=0, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with standing_in(replace(Outside(), kube=kube, airflow=lambda _connection: airflow)):
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        told.send(server.servers[0].sockets[0].getsockname()[1])
        await asyncio.to_thread(told.recv)
        server.should_exit = True
        await serving


def _app() -> Any:
    from airflow.api_fastapi.core_api import security
    from fastapi import FastAPI
    from fastapi.middleware.gzip import GZipMiddleware

    from handover.workflows.page.access import may_read, may_roll_back
    from handover.workflows.page.application import PREFIX, application

    page = application()
    page.dependency_overrides |= {security.get_user: lambda: None, may_read: lambda: None, may_roll_back: lambda: True}
    app = FastAPI()
    app.mount(PREFIX, page)
    app.get("/ui/auth/me")(lambda: {"id": "lead", "username": "lead"})
    app.get(QUESTIONS)(lambda: {"hitl_details": [], "total_entries": 0})
    app.add_middleware(GZipMiddleware, minimum_size=1024, compresslevel=5)  # as Airflow has it
    return app


def serve(ledger: str, kubeconfig: Path, told: Connection) -> None:
    """What the process runs: says its port, and ends when it is sent anything. ``ledger``: its DSN."""
    os.environ["AIRFLOW_CONN_PMS_RECORD"] = ledger
    asyncio.run(_serve(str(kubeconfig), told))
