"""What the page asks of Airflow itself, kept as Airflow 3.3 keeps it: who is signed in, open questions, answers."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, HTTPException, Request

from tests.support.page import ROLES, WHO

FRAME = """<!doctype html><html><head><title>Airflow</title></head><body style="margin:0">
<iframe title="Services" src="/handover/{hash}" style="border:none;display:block;height:900px;width:100%"
 sandbox="allow-scripts allow-same-origin allow-forms allow-downloads"></iframe></body></html>"""
"""As Airflow's UI shows an external view."""


@dataclass
class AirflowPages:
    """``asked``: every question; ``away``: nothing of it answers; ``looked``: the queries that were made."""

    asked: list[dict[str, Any]] = field(default_factory=list)
    away: bool = False
    looked: list[dict[str, list[str]]] = field(default_factory=list)

    def ask(
        self, dag: str, run: str, task: str, subject: str, options: list[str], *, body: str = "",
        users: dict[str, str] | None = None, params: dict[str, Any] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """A question waits. ``users``: id to the title of the role."""
        one = {
            "options": options, "subject": subject, "body": body, "defaults": None, "multiple": False,
            "params": params or {}, "assigned_users": [{"id": u, "name": name} for u, name in (users or {}).items()],
            "created_at": datetime.datetime.now(datetime.UTC).isoformat(), "responded_by_user": None,
            "responded_at": None, "chosen_options": None, "params_input": {}, "response_received": False,
            "task_instance": {
                "id": f"00000000-0000-0000-0000-{len(self.asked):012}", "dag_id": dag, "dag_run_id": run,
                "task_id": task, "map_index": -1, "state": "awaiting_input",
            },
        }  # fmt: skip
        self.asked.append(one)
        return one

    def router(self) -> APIRouter:
        router = APIRouter()
        path = "/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/{index}/hitlDetails"
        router.get("/ui/auth/me")(self._me)
        router.get("/api/v2/dags/~/dagRuns/~/hitlDetails")(self._list)
        router.patch(path)(self._answer)
        return router

    def _who(self, request: Request) -> str:
        if self.away:
            raise HTTPException(503, "the database does not answer")
        name = request.headers.get(WHO, "")
        if name not in ROLES:
            raise HTTPException(401, "Not authenticated")
        return name

    async def _me(self, request: Request) -> dict[str, str]:
        name = self._who(request)
        return {"id": name, "username": name}

    async def _list(self, request: Request) -> dict[str, Any]:
        name, query = self._who(request), request.query_params
        self.looked.append({key: query.getlist(key) for key in query})
        found = [
            one for one in self.asked
            if name != "stranger"
            and one["task_instance"]["dag_id"].startswith(query.get("dag_id_prefix_pattern", ""))
            and str(one["response_received"]).lower() == query.get("response_received", "false")
            and one["task_instance"]["state"] in (query.getlist("state") or [one["task_instance"]["state"]])
        ]  # fmt: skip
        return {"hitl_details": found, "total_entries": len(found)}

    async def _answer(self, request: Request, dag: str, run: str, task: str, index: int) -> dict[str, Any]:
        name, payload = self._who(request), await request.json()
        where = {"dag_id": dag, "dag_run_id": run, "task_id": task, "map_index": index}
        one = next((one for one in self.asked if where.items() <= one["task_instance"].items()), None)
        if name == "stranger":
            raise HTTPException(403, "Forbidden")
        if one is None:
            raise HTTPException(404, f"Human-in-the-loop detail does not exist for Task Instance with id {task}")
        if one["response_received"]:
            raise HTTPException(409, "Human-in-the-loop detail has already been updated")
        if one["assigned_users"] and name not in {user["id"] for user in one["assigned_users"]}:
            raise HTTPException(403, f"User={name} (id={name}) is not a respondent for the task.")
        if wrong := set(payload["chosen_options"]) - set(one["options"]):
            raise HTTPException(400, f"Invalid options {sorted(wrong)}; allowed options are {sorted(one['options'])}.")
        at = datetime.datetime.now(datetime.UTC).isoformat()
        one |= {
            "response_received": True, "responded_at": at, "chosen_options": payload["chosen_options"],
            "params_input": payload.get("params_input", {}), "responded_by_user": {"id": name, "name": name},
        }  # fmt: skip
        one["task_instance"]["state"] = "success"
        return {key: one[key] for key in ("responded_at", "chosen_options", "params_input")} | {
            "responded_by": one["responded_by_user"]
        }
