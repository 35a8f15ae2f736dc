"""Airflow's own REST API, as the workflows use it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol
from urllib.parse import quote


class AirflowError(Exception):
    """Airflow's API did not answer, or refused; ``status`` is the HTTP status, 0 when there was no answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class AirflowApi(Protocol):
    """Paths are below ``/api/v2``. Every call raises `AirflowError`."""

    def get(self, path: str, **params: Any) -> Any: ...

    def find(self, path: str) -> Any:
        """None when there is no such thing."""

    def pages(self, path: str, key: str) -> Iterator[dict[str, Any]]:
        """Every item of a list, however long."""

    def start(self, dag_id: str, run_id: str, conf: dict[str, Any]) -> bool:
        """Starts a run; False when a run of this id is there already. Whoever chose its id may have started another
        thing under it, so it has to be looked at before it is believed.
        """

    def seal(self, text: str) -> str:
        """A keyed digest of a text, the same in every process that signs in to Airflow as we do: nobody else can make
        it. Asks nobody. Raises `AirflowError` without a password to make it of.
        """

    def note_run(self, dag_id: str, run_id: str, note: str) -> None:
        """What stands beside the run in Airflow's lists, in place of what stood there."""

    def fail_task(self, dag_id: str, run_id: str, task_id: str, note: str) -> None:
        """Ends a task that waits or runs as failed, as somebody does in the UI; the note says why."""


def run_path(dag_id: str, run_id: str) -> str:
    return f"/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}"
