"""Airflow's REST API as a person with curl would use it: trigger, look, answer."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx

Json = dict[str, Any]
DONE = frozenset({"success", "failed"})
PAGE = 1000


class AirflowError(Exception):
    """Airflow refused, or did not answer; `status` is the HTTP status, 0 when there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class AirflowClient:
    """One user's session; a token is fetched when first needed and again when it has run out. Not for two threads."""

    def __init__(self, url: str, user: str, password: str, timeout_seconds: float = 30.0) -> None:
        self.url = url.rstrip("/")
        self.user = user
        self._password = password
        self._token = ""
        self._http = httpx.Client(base_url=self.url, timeout=timeout_seconds, trust_env=False)

    def __enter__(self) -> AirflowClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def token(self) -> str:
        """A fresh bearer token."""
        answer = self._send("POST", "/auth/token", json={"username": self.user, "password": self._password})
        return str(_body(answer)["access_token"])

    def call(
        self, method: str, path: str, *, json: Any = None, params: Mapping[str, Any] | None = None, at: str = "/api/v2"
    ) -> Any:
        """`path` below /api/v2; gives the decoded answer, raises AirflowError for a status of 400 or more."""
        self._token = self._token or self.token()
        answer = self._send(method, f"{at}{path}", json=json, params=params, bearer=self._token)
        if _is_worn_out(answer):
            self._token = self.token()
            answer = self._send(method, f"{at}{path}", json=json, params=params, bearer=self._token)
        return _body(answer)

    def where(self, plan: str) -> Json:
        """Where traffic of a plan's service is."""
        return dict(self.call("GET", f"/plans/{plan}", at="/handover"))

    def roll_back_now(self, plan: str, reason: str) -> Json:
        """Moves traffic back before it answers."""
        return dict(self.call("POST", f"/plans/{plan}/rollback", json={"reason": reason}, at="/handover"))

    def health(self) -> dict[str, Json]:
        """Component to its state; needs no login."""
        health = _body(self._send("GET", "/api/v2/monitor/health"))
        return {name: part or {} for name, part in health.items()}

    def dags(self) -> list[Json]:
        return list(self.call("GET", "/dags", params={"limit": PAGE})["dags"])

    def import_errors(self) -> list[Json]:
        return list(self.call("GET", "/importErrors", params={"limit": PAGE})["import_errors"])

    def make_connection(self, connection_id: str, connection: Json) -> None:
        """As somebody does in the UI; one that is there is replaced. ``connection``: as `AIRFLOW_CONN_<ID>` has it."""
        body = {"connection_id": connection_id} | connection
        if "extra" in body:
            body["extra"] = json.dumps(body["extra"])
        try:
            self.call("POST", "/connections", json=body)
        except AirflowError as error:
            if error.status != httpx.codes.CONFLICT:
                raise
            self.call("PATCH", f"/connections/{_q(connection_id)}", json=body)

    def pause(self, dag_id: str, paused: bool = True) -> None:
        self.call("PATCH", f"/dags/{dag_id}", json={"is_paused": paused})

    def trigger(self, dag_id: str, params: Mapping[str, Any] | None = None, run_id: str | None = None) -> str:
        """Start a run, filling its form with `params`; gives the run's id."""
        body = {"logical_date": None, "conf": dict(params or {}), **({"dag_run_id": run_id} if run_id else {})}
        return str(self.call("POST", f"/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> Json:
        return dict(self.call("GET", _run(dag_id, run_id)))

    def runs(self, dag_id: str) -> list[Json]:
        """The newest first."""
        params = {"limit": 100, "order_by": "-start_date"}
        return list(self.call("GET", f"/dags/{dag_id}/dagRuns", params=params)["dag_runs"])

    def mark_run(self, dag_id: str, run_id: str, state: str) -> None:
        """As somebody does in the UI: `failed`, `success` or `queued`."""
        self.call("PATCH", _run(dag_id, run_id), json={"state": state})

    def wait_for_run(self, dag_id: str, run_id: str, timeout_seconds: float, poll_seconds: float = 0.5) -> str:
        """Until the run has ended; gives its state, raises TimeoutError."""
        deadline = time.monotonic() + timeout_seconds
        while (state := str(self.run(dag_id, run_id)["state"])) not in DONE:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{dag_id} {run_id} is still {state} after {timeout_seconds:g} s")
            time.sleep(poll_seconds)
        return state

    def task_instances(self, dag_id: str, run_id: str) -> list[Json]:
        answer = self.call("GET", f"{_run(dag_id, run_id)}/taskInstances", params={"limit": PAGE})
        return list(answer["task_instances"])

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        """Task id to state; a mapped task is as bad as its worst instance, which is the last one given."""
        return {task["task_id"]: task["state"] for task in self.task_instances(dag_id, run_id)}

    def mark_task(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        self.call("PATCH", f"{_run(dag_id, run_id)}/taskInstances/{_q(task_id)}", json={"new_state": state})

    def clear_task(self, dag_id: str, run_id: str, task_id: str) -> None:
        """As somebody does in the UI: the task runs again, and so does what is behind it."""
        body = {"dry_run": False, "dag_run_id": run_id, "task_ids": [task_id], "include_downstream": True,
                "only_failed": False, "reset_dag_runs": True}  # fmt: skip
        self.call("POST", f"/dags/{_q(dag_id)}/clearTaskInstances", json=body)

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1) -> str:
        """A task's log, one event a line."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{_q(task_id)}/logs/{try_number}"
        content = self.call("GET", path, params={"map_index": map_index, "full_content": True})["content"]
        if isinstance(content, str):
            return content
        return "\n".join(_log_line(entry) for entry in content)

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        """A value that a task left; None when there is none."""
        try:
            path = f"{_run(dag_id, run_id)}/taskInstances/{_q(task_id)}/xcomEntries/{_q(key)}"
            return self.call("GET", path, params={"deserialize": True})["value"]
        except AirflowError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise

    def make_pool(self, name: str, slots: int) -> None:
        """Unless it is there."""
        try:
            self.call("POST", "/pools", json={"name": name, "slots": slots})
        except AirflowError as error:
            if error.status != httpx.codes.CONFLICT:
                raise

    def questions(self, dag_id: str = "~", run_id: str = "~") -> list[Json]:
        """Questions to people that nobody has answered; "~" is any."""
        return self.asked(dag_id, run_id, response_received=False)

    def asked(self, dag_id: str, run_id: str, **wanted: Any) -> list[Json]:
        """Every question of a run, answered or not."""
        params = {"limit": PAGE} | wanted
        return list(self.call("GET", f"{_run(dag_id, run_id)}/hitlDetails", params=params)["hitl_details"])

    def answer(self, question: Json, options: Sequence[str], params: Mapping[str, Any] | None = None) -> Json:
        """Answer a question (one of `questions`) as this user."""
        task = question["task_instance"]
        path = (
            f"{_run(task['dag_id'], task['dag_run_id'])}/taskInstances/{_q(task['task_id'])}/{task['map_index']}"
            "/hitlDetails"
        )
        return dict(
            self.call("PATCH", path, json={"chosen_options": list(options), "params_input": dict(params or {})})
        )

    def variable(self, key: str) -> str | None:
        try:
            return str(self.call("GET", f"/variables/{_q(key)}")["value"])
        except AirflowError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise

    def set_variable(self, key: str, value: str) -> None:
        body = {"key": key, "value": value}
        if self.variable(key) is None:
            self.call("POST", "/variables", json=body)
        else:
            self.call("PATCH", f"/variables/{_q(key)}", json=body)

    def delete_variable(self, key: str) -> None:
        self.call("DELETE", f"/variables/{_q(key)}")

    def _send(
        self, method: str, path: str, *, json: Any = None, params: Any = None, bearer: str = ""
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        try:
            return self._http.request(method, path, json=json, params=params, headers=headers)
        except httpx.HTTPError as error:
            raise AirflowError(f"{method} {self.url}{path}: {error or type(error).__name__}") from None


def _run(dag_id: str, run_id: str) -> str:
    return f"/dags/{_q(dag_id)}/dagRuns/{_q(run_id)}"


def _q(text: str) -> str:
    return quote(text, safe="~")


def _is_worn_out(answer: httpx.Response) -> bool:
    """Airflow answers 403 to a token that is invalid or has run out, as it does to a user who may not."""
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        return True
    return answer.status_code == httpx.codes.FORBIDDEN and ("JWT" in answer.text or "Expired" in answer.text)


def _body(answer: httpx.Response) -> Any:
    if answer.status_code >= httpx.codes.BAD_REQUEST:
        request = answer.request
        message = f"{request.method} {request.url.path}: {answer.status_code} {answer.text[:500]}"
        raise AirflowError(message, answer.status_code)
    return answer.json() if answer.content else None


def _log_line(entry: Any) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    line = f"{entry.get('timestamp') or ''} {entry.get('level') or ''} {entry.get('event') or ''}".strip()
    details = "".join(f" {error}" for error in entry.get("error_detail") or [])
    return line + details
