"""This Airflow's own REST API, which answers everywhere: in tasks, in callbacks, in listeners, on a command line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from handover.adapters.refusals import spoken
from handover.ports.airflow import AirflowError, run_path

if TYPE_CHECKING:
    import requests

TIMEOUT_SECONDS = 4.0
"""A worker kills callbacks after 20 s; the calls of one callback together stay below that."""
PAGE = 100
"""What Airflow gives at most by default."""


class AirflowRest:
    """A session with a token, from login and password of an Airflow connection."""

    def __init__(self, connection_id: str) -> None:
        import requests
        from airflow.sdk import BaseHook

        from handover.adapters.http import base_url

        connection = BaseHook.get_connection(connection_id)
        self.url = base_url(connection)
        self._http = requests.Session()
        credentials = {"username": connection.login, "password": connection.password}
        self._password = connection.password or ""
        token = self._checked(self._send("POST", "/auth/token", json=credentials))
        self._http.headers["Authorization"] = f"Bearer {token.json()['access_token']}"

    def get(self, path: str, **params: Any) -> Any:
        return self._checked(self._send("GET", f"/api/v2{path}", params=params)).json()

    def find(self, path: str) -> Any:
        answer = self._send("GET", f"/api/v2{path}")
        return None if answer.status_code == 404 else self._checked(answer).json()

    def pages(self, path: str, key: str) -> Iterator[dict[str, Any]]:
        seen, total = 0, 1
        while seen < total:
            page = self.get(path, limit=PAGE, offset=seen)
            total = page["total_entries"]
            yield from page[key]
            seen += len(page[key]) or total

    def start(self, dag_id: str, run_id: str, conf: dict[str, Any]) -> bool:
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
        answer = self._send("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)
        return answer.status_code != 409 and self._checked(answer).ok

    def fail_task(self, dag_id: str, run_id: str, task_id: str, note: str) -> None:
        path = f"/api/v2{run_path(dag_id, run_id)}/taskInstances/{quote(task_id, safe='')}"
        self._checked(self._send("PATCH", path, json={"new_state": "failed", "note": note[:1000]}))

    def _send(self, method: str, path: str, **how: Any) -> requests.Response:
        import requests

        try:
            return self._http.request(method, f"{self.url}{path}", timeout=TIMEOUT_SECONDS, **how)
        except requests.RequestException as error:
            raise AirflowError(0, f"{method} {path}: Airflow did not answer: {error}") from error

    def _checked(self, answer: requests.Response) -> requests.Response:
        if not answer.ok:
            words = spoken(answer.content, password=self._password) or answer.reason
            said = f"{answer.request.method} {answer.request.path_url}: {answer.status_code} {words}"
            raise AirflowError(answer.status_code, said)
        return answer
