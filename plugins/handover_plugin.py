"""Registers the listener that sees what no callback sees (a deployment run marked failed by hand), and what the API
server answers below ``/handover``, with the places of its page in Airflow's own UI.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from handover.workflows import listener


class HandoverPlugin(AirflowPlugin):
    """Every process of Airflow loads it, a task too. What the API server alone asks for is imported when it asks, so
    that no other pays for it: a second of each task.
    """

    name = "handover"
    listeners = [listener]  # noqa: RUF012 - Airflow declares it so

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        from handover.workflows.page.application import PREFIX, application

        return [{"app": application(), "url_prefix": PREFIX, "name": "handover"}]

    @cached_property
    def fastapi_root_middlewares(self) -> list[dict[str, Any]]:  # type: ignore[override]
        from handover.workflows.rollback.answered import AnsweredRollback

        return [{"middleware": AnsweredRollback, "args": [], "kwargs": {}, "name": "an answer that is a rollback"}]

    @cached_property
    def external_views(self) -> list[dict[str, Any]]:  # type: ignore[override]
        from handover.workflows.page.application import views

        return views()
