"""Airflow's connections, in a task and in a thread beside it."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

from handover.adapters import airflow_connections
from handover.adapters.airflow_connections import NotLookedUp, beside_the_task, extra_of
from tests.support.steps import connect_to


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(airflow_connections, "_KNOWN", {})


def beside(connection_id: str) -> object:
    """What a thread beside the task is given, or what it raises."""
    found: list[object] = []

    async def ask() -> None:
        with beside_the_task():
            try:
                found.append(await asyncio.create_task(extra_of(connection_id)))
            except LookupError as error:
                found.append(error)

    thread = threading.Thread(target=lambda: asyncio.run(ask()))
    thread.start()
    thread.join()
    return found[0]


def test_a_thread_takes_what_the_task_has_looked_up_and_asks_airflow_nothing(monkeypatch):
    connect_to(monkeypatch, "web_kubernetes", conn_type="kubernetes", extra=json.dumps({"in_cluster": True}))
    assert asyncio.run(extra_of("web_kubernetes")) == {"in_cluster": True}
    monkeypatch.delenv("AIRFLOW_CONN_WEB_KUBERNETES")
    assert beside("web_kubernetes") == {"in_cluster": True}


def test_what_the_task_never_asked_for_is_not_asked_for_beside_it(monkeypatch):
    connect_to(monkeypatch, "web_kubernetes", conn_type="kubernetes", extra=json.dumps({"in_cluster": True}))
    found = beside("web_kubernetes")
    assert isinstance(found, NotLookedUp)
    assert str(found) == "connection web_kubernetes was not looked up by the task itself"


def test_the_task_itself_is_told_of_a_change(monkeypatch):
    for path in ("/old", "/new"):
        connect_to(monkeypatch, "web_kubernetes", conn_type="kubernetes", extra=json.dumps({"kube_config_path": path}))
        assert asyncio.run(extra_of("web_kubernetes")) == {"kube_config_path": path}
