"""This Airflow's own REST API, which answers everywhere: in tasks, in callbacks, in listeners, on a command line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    import requests

    from pms.plan.model import Plan

TIMEOUT_SECONDS = 4.0
"""A worker kills callbacks after 20 s; the calls of one callback together stay below that."""
PAGE = 100
"""What Airflow gives at most by default."""


class Airflow:
    """A session with a token, from login and password of the plan's connection.

    Every call raises `requests.RequestException` when the API does not answer, or refuses.
    """

    def __init__(self, plan: Plan) -> None:
        import requests
        from airflow.sdk import BaseHook

        from pms.http import base_url

        connection = BaseHook.get_connection(plan.rollback.airflow_connection)
        self.url = base_url(connection)
        self._http = requests.Session()
        token = self._http.post(
            f"{self.url}/auth/token",
            json={"username": connection.login, "password": connection.password},
            timeout=TIMEOUT_SECONDS,
        )
        token.raise_for_status()
        self._http.headers["Authorization"] = f"Bearer {token.json()['access_token']}"

    def send(self, method: str, path: str, **how: Any) -> requests.Response:
        """``path`` below /api/v2; the answer, whatever its status."""
        return self._http.request(method, f"{self.url}/api/v2{path}", timeout=TIMEOUT_SECONDS, **how)

    def get(self, path: str, **params: Any) -> Any:
        answer = self.send("GET", path, params=params)
        answer.raise_for_status()
        return answer.json()

    def find(self, path: str) -> Any:
        """None when there is no such thing."""
        answer = self.send("GET", path)
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        return answer.json()

    def pages(self, path: str, key: str) -> Iterator[dict[str, Any]]:
        """Every item of a list, however long."""
        seen, total = 0, 1
        while seen < total:
            page = self.get(path, limit=PAGE, offset=seen)
            total = page["total_entries"]
            yield from page[key]
            seen += len(page[key]) or total


def run_path(dag_id: str, run_id: str) -> str:
    return f"/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}"
