"""The twin of Airflow's REST API: runs that were started, and answers by path."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from handover.ports.airflow import AirflowError, run_path


@dataclass
class TwinAirflow:
    """``answers``: path to what is there; ``away``: every call fails. ``started``: (DAG, run id) to its conf, and
    ``ended`` to the state of those that do nothing any more. ``failed``: (DAG, run id, task) to the note.
    ``notes``: (DAG, run id) to its own. ``password``: what its seals are made of."""

    answers: dict[str, Any] = field(default_factory=dict)
    away: bool = False
    started: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    ended: dict[tuple[str, str], str] = field(default_factory=dict)
    failed: dict[tuple[str, str, str], str] = field(default_factory=dict)
    notes: dict[tuple[str, str], str] = field(default_factory=dict)
    password: str = "the twin's"

    def get(self, path: str, **params: Any) -> Any:
        found = self.find(path)
        if found is None:
            raise AirflowError(404, f"GET {path}: 404")
        return found

    def find(self, path: str) -> Any:
        self._answer()
        return self.answers.get(path) or next((self._run(*one) for one in self.started if run_path(*one) == path), None)

    def pages(self, path: str, key: str) -> Iterator[dict[str, Any]]:
        if key != "dag_runs":
            yield from self.get(path)[key]
            return
        self._answer()
        asked = urlsplit(path)
        runs = [self._run(*one) for one in self.started if asked.path == f"/dags/{one[0]}/dagRuns"]
        yield from (run for run in runs if run["state"] in parse_qs(asked.query)["state"])

    def start(self, dag_id: str, run_id: str, conf: dict[str, Any]) -> bool:
        self._answer()
        if (dag_id, run_id) in self.started:
            return False
        self.started[dag_id, run_id] = conf
        return True

    def seal(self, text: str) -> str:
        return hmac.new(self.password.encode(), text.encode(), hashlib.sha256).hexdigest()

    def note_run(self, dag_id: str, run_id: str, note: str) -> None:
        self._answer()
        self.notes[dag_id, run_id] = note

    def fail_task(self, dag_id: str, run_id: str, task_id: str, note: str) -> None:
        self._answer()
        self.failed[dag_id, run_id, task_id] = note

    def _run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        state, conf = self.ended.get((dag_id, run_id), "running"), self.started[dag_id, run_id]
        return {"dag_run_id": run_id, "state": state, "conf": conf, "queued_at": None, "start_date": None}

    def _answer(self) -> None:
        if self.away:
            raise AirflowError(0, "Airflow did not answer")
