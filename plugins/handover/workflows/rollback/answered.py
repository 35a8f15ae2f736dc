"""The answer "Rollback" moves traffic once Airflow has taken it: its task hears of it seconds later, from a scheduler.

The task, and the rollback DAG that follows it, do the rest as ever.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from handover.models.json_text import decoded
from handover.people.operators import ROLLBACK
from handover.plan.load import load_plans
from handover.workflows.rollback.now import Behind, RollBackNow

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)
QUESTIONS = b"/hitlDetails"
ANSWERED = re.compile(r"/api/v2/dags/([^/]+)/dagRuns/([^/]+)/taskInstances/[^/]+/-?\d+/hitlDetails$")
NOT_MOVED = "traffic was not moved from here: the task of the question does it"
MAX_BYTES = 2**16
"""Of what Airflow says of an answer; what is longer is left to the task."""


class AnsweredRollback:
    """Around Airflow's own API: an answer is looked at once Airflow has taken it, so from somebody who may give it, and
    who has been told so before.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._plans: dict[str, RollBackNow] = {}
        self._behind = Behind()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("raw_path", b"") if scope["type"] == "http" else b""
        if path.endswith(QUESTIONS) and not self._plans:
            self._behind.start(self._get_ready(), NOT_MOVED)  # whoever is shown a question may answer it soon
        where = ANSWERED.search(path.decode("ascii", "replace")) if path and scope["method"] == "PATCH" else None
        if where is None:
            await self._app(scope, receive, send)
            return
        status, body = 0, b""

        async def heard(message: Message) -> None:
            nonlocal status, body
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body" and len(body) <= MAX_BYTES:
                body += message.get("body", b"")
            await send(message)

        await self._app(scope, receive, heard)
        if status == 200 and (who := rolled_back_by(body)):
            self._behind.start(self._take_back(unquote(where[1]), unquote(where[2]), who), NOT_MOVED)

    async def _take_back(self, dag_id: str, run_id: str, who: str) -> None:
        await self._read()
        if one := self._plans.get(dag_id):
            log.info("%s", await one.answered(run_id, f"{ROLLBACK} by {who}"))

    async def _get_ready(self) -> None:
        await self._read()
        await asyncio.gather(*(one.where() for one in self._plans.values()))

    async def _read(self) -> None:
        if not self._plans:
            plans = await asyncio.to_thread(lambda: [one for one in load_plans() if not isinstance(one, ValueError)])
            for plan in plans:
                self._plans.setdefault(plan.deployment_dag_id, RollBackNow(plan))


def rolled_back_by(body: bytes) -> str:
    """Who has answered "Rollback", "" for any other answer. Pure."""
    try:
        said = decoded(body)
        return str(said["responded_by"]["name"]) if said["chosen_options"] == [ROLLBACK] else ""
    except (ValueError, KeyError, TypeError):
        return ""
