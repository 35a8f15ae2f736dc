"""Runs a step as Airflow would: execute it, and when it defers, run its trigger from its stored form and resume."""

from __future__ import annotations

import asyncio
import importlib
import json
import time
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from airflow.triggers.base import BaseTrigger, TriggerEvent

from handover import clock
from handover.coordination import heartbeat, lock, state
from handover.evidence_seal import leave
from handover.foundation import EVIDENCE_KEY
from handover.models.deployment import DeploymentState, FencingToken, Release, Status
from handover.models.evidence import Evidence
from handover.models.heartbeat import Heartbeat
from handover.ports.kube import Kube
from handover.step import FENCING_KEY, RELEASE_KEY, Step

RUN_ID = "manual__2026-11-24"


class Opening:
    """The task that leaves what every step of a run reads."""

    def __init__(self, dag_id: str = "", task_id: str = "open", run_id: str = "") -> None:
        self.dag_id, self.task_id, self.run_id = dag_id, task_id, run_id
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


def left_by(task_id: str, key: str, value: Any) -> dict[tuple[str, str], Any]:
    """What a task has left, with its seal, by task and key."""
    task = Opening(task_id=task_id)
    leave(task, key, value)
    return {(task_id, name): one for name, one in task.pushed.items()}


class Ti:
    """The task instance as far as steps use it: what was pushed, and what ``open`` left."""

    def __init__(self, token: FencingToken, release: Release) -> None:
        self.pushed: dict[str, Any] = {}
        opening = Opening()
        leave(opening, FENCING_KEY, token.model_dump(mode="json"))
        leave(opening, RELEASE_KEY, release.model_dump(mode="json"))
        self._left = opening.pushed

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = json.loads(json.dumps(value))

    def xcom_pull(self, task_ids: str, key: str) -> Any:
        assert task_ids == "open"
        return self._left.get(key)


def release(image: str, version: str = "v1.1.0") -> Release:
    return Release(version=version, image=image, reason="a test")


async def opened(kube: Kube, lock_name: str, image: str, **known: Any) -> FencingToken:
    """Takes the lock and writes the state, as the opening of a deployment does: blue serves v1.0.0, green is idle."""
    generation = await lock.acquire(kube, lock_name, RUN_ID, "a test")
    token = FencingToken(deployment=RUN_ID, generation=generation, stable="blue", preview="green")
    facts = {
        "deployment": RUN_ID, "generation": generation, "status": Status.DEPLOYING, "version": "v1.1.0",
        "image": image, "previous_version": "v1.0.0", "previous_image": image, "stable": "blue",
        "preview": "green", "reason": "a test", "started_at": time.time(),
    }  # fmt: skip
    await state.write(kube, lock_name, DeploymentState(**(facts | known)))
    return token


async def watched(kube: Kube, lock_name: str, token: FencingToken) -> None:
    """Somebody watches, who has heard every source by now."""
    await heartbeat.beat(kube, lock_name, token, Heartbeat(watcher="test", at=clock.epoch(), armed=True))


def revived(trigger: BaseTrigger) -> BaseTrigger:
    """The trigger after Airflow stored it: its class by name, its arguments through JSON."""
    path, arguments = trigger.serialize()
    module, _, name = path.rpartition(".")
    again = getattr(importlib.import_module(module), name)(**json.loads(json.dumps(arguments)))
    assert again.serialize() == trigger.serialize()
    return again


async def events(trigger: BaseTrigger, seconds: float = 240) -> list[Any]:
    """The payloads of all events of a trigger."""
    async with asyncio.timeout(seconds):
        found = [event async for event in revived(trigger).run()]
    assert all(isinstance(event, TriggerEvent) for event in found)
    return [json.loads(json.dumps(event.payload)) for event in found]


class Ran:
    """What a step left: its evidence, whether it failed its task, whether it deferred."""

    def __init__(self, ti: Ti, error: AirflowFailException | None, triggers: list[BaseTrigger]) -> None:
        self.evidence = Evidence.model_validate(ti.pushed[EVIDENCE_KEY])
        self.xcom, self.error, self.triggers = ti.pushed, error, triggers
        assert self.evidence.passed == (error is None)


def run(step: Step, token: FencingToken, asked: Release) -> Ran:
    ti = Ti(token, asked)
    context: Any = {"run_id": RUN_ID, "ti": ti}
    triggers: list[BaseTrigger] = []
    try:
        try:
            step.execute(context)
        except TaskDeferred as deferred:
            triggers.append(deferred.trigger)
            (payload,) = asyncio.run(events(deferred.trigger))
            getattr(step, deferred.method_name)(context, payload)
    except AirflowFailException as error:
        return Ran(ti, error, triggers)
    return Ran(ti, None, triggers)


def connect_to(monkeypatch: pytest.MonkeyPatch, name: str, **parts: Any) -> None:
    """Sets an Airflow connection for the test."""
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps({"conn_type": "http"} | parts))
