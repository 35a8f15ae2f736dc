"""This Airflow's own REST API, which answers everywhere: in tasks, in callbacks, in listeners, on a command line."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from handover.adapters.refusals import spoken
from handover.models.json_text import decoded
from handover.ports.airflow import AirflowError, run_path

if TYPE_CHECKING:
    import requests

TIMEOUT_SECONDS = 4.0
"""A worker kills callbacks after 20 s; the calls of one callback together stay below that."""
PAGE = 100
"""What Airflow gives at most by default."""
SALT = b"handover: what this system seals"


class AirflowRest:
    """A session with a token, from login and password of an Airflow connection; signs in when it asks for something.
    No redirect is followed: what is sent here, password and token above all, is for this Airflow alone.
    """

    def __init__(self, connection_id: str) -> None:
        from airflow.sdk import BaseHook

        from handover.adapters.http import base_url
        from handover.adapters.straight import Straight

        connection = BaseHook.get_connection(connection_id)
        self.url = base_url(connection)
        self._http = Straight()
        self._login, self._password = connection.login or "", connection.password or ""

    def get(self, path: str, **params: Any) -> Any:
        return self._value(self._send("GET", f"/api/v2{path}", params=params))

    def find(self, path: str) -> Any:
        answer = self._send("GET", f"/api/v2{path}")
        return None if answer.status_code == 404 else self._value(answer)

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

    def note_run(self, dag_id: str, run_id: str, note: str) -> None:
        self._checked(self._send("PATCH", f"/api/v2{run_path(dag_id, run_id)}", json={"note": note}))

    def fail_task(self, dag_id: str, run_id: str, task_id: str, note: str) -> None:
        path = f"/api/v2{run_path(dag_id, run_id)}/taskInstances/{quote(task_id, safe='')}"
        self._checked(self._send("PATCH", path, json={"new_state": "failed", "note": note[:1000]}))

    def seal(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()

    @cached_property
    def _key(self) -> bytes:
        """Derived slowly: who may see a seal shall not guess passwords with it."""
        if not self._password:
            raise AirflowError(0, "the connection has no password, so nothing can be sealed")
        return hashlib.scrypt(self._password.encode(), salt=SALT, n=2**14, r=8, p=1)

    def _send(self, method: str, path: str, **how: Any) -> requests.Response:
        if "Authorization" not in self._http.headers:
            credentials = {"username": self._login, "password": self._password}
            body = self._value(self._request("POST", "/auth/token", json=credentials))
            if not isinstance(body, dict) or not isinstance(token := body.get("access_token"), str):
                raise AirflowError(0, "POST /auth/token: the answer has no token")
            self._http.headers["Authorization"] = f"Bearer {token}"
        return self._request(method, path, **how)

    def _request(self, method: str, path: str, **how: Any) -> requests.Response:
        import requests

        try:
            return self._http.request(
                method, f"{self.url}{path}", timeout=TIMEOUT_SECONDS, allow_redirects=False, **how
            )
        except requests.RequestException as error:
            raise AirflowError(0, f"{method} {path}: Airflow did not answer: {error}") from error

    def _value(self, answer: requests.Response) -> Any:
        try:
            return decoded(self._checked(answer).content)
        except ValueError:
            said = f"{answer.request.method} {answer.request.path_url}: the answer is not JSON"
            raise AirflowError(answer.status_code, said) from None

    def _checked(self, answer: requests.Response) -> requests.Response:
        if answer.status_code >= 300:
            words = spoken(answer.content, password=self._password) or answer.reason
            said = f"{answer.request.method} {answer.request.path_url}: {answer.status_code} {words}"
            raise AirflowError(answer.status_code, said)
        return answer
