"""Registers the listener that sees what no callback sees (a deployment run marked failed by hand), and what the API
server answers below ``/handover``, with the places of its page in Airflow's own UI.
"""

from __future__ import annotations

import os
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from handover.workflows import listener

SERVER = os.environ.get("_AIRFLOW_PROCESS_CONTEXT") == "server"
"""No other process has anybody to answer, and each would pay for the imports."""


def _routes() -> list[dict[str, Any]]:
    if not SERVER:
        return []
    from handover.workflows.page.application import PREFIX, application

    return [{"app": application(), "url_prefix": PREFIX, "name": "handover"}]


def _views() -> list[dict[str, Any]]:
    if not SERVER:
        return []
    from handover.workflows.page.application import views

    return views()


def _middlewares() -> list[dict[str, Any]]:
    if not SERVER:
        return []
    from handover.workflows.rollback.answered import AnsweredRollback

    return [{"middleware": AnsweredRollback, "args": [], "kwargs": {}, "name": "an answer that is a rollback"}]


class HandoverPlugin(AirflowPlugin):
    name = "handover"
    listeners = [listener]  # noqa: RUF012 - Airflow declares it so
    fastapi_apps = _routes()
    fastapi_root_middlewares = _middlewares()
    external_views = _views()
