"""A task instance as far as messages use it: XComs, the store that outlives a try, and which try it is."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

RUN = "scheduled__2026-11-24T14:00:00+00:00"


class Store:
    """What Airflow keeps of a task from one try to the next."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self.kept.get(key)

    def set(self, key: str, value: Any) -> None:
        self.kept[key] = json.loads(json.dumps(value))


class Ti:
    """``found``: what other tasks left, by task and key. Airflow forgets ``pushed`` when a task is tried again."""

    def __init__(self, task_id: str = "task", found: dict[tuple[str, str], Any] | None = None, tries: int = 1) -> None:
        self.task_id, self.dag_id, self.run_id, self.try_number = task_id, "pms_announcements", RUN, tries
        self.found, self.pushed = found or {}, {}
        self.task: Any = None
        self.max_tries = 0
        self.start_date = None

    def xcom_pull(self, task_ids: str, key: str) -> Any:
        return self.pushed.get(key) if task_ids == self.task_id else self.found.get((task_ids, key))

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = json.loads(json.dumps(value))


def context_of(ti: Ti, store: Any = None, run_type: str = "manual", logical_date: Any = None, **params: Any) -> Any:
    dag_run = SimpleNamespace(run_type=run_type, logical_date=logical_date)
    return {"ti": ti, "run_id": RUN, "dag_run": dag_run, "params": params, "task_state_store": store}
