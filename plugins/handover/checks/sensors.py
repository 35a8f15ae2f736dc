"""Waits for a healthy answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from handover import clock
from handover.step import Step, StepRun

if TYPE_CHECKING:
    from handover.models.deployment import DeploymentState
    from handover.models.evidence import Evidence
    from handover.plan.model import Plan


class Healthy(Step):
    """Passes on three good answers in a row (plan 1.1, 2.3 and rollback step 3). Holds no worker slot.

    :param connection: http connection id
    :param expect_version: the answer must say that it is from the version, see ``traffic.origin``
    :param version: which version that is: the ``new`` one or the ``old`` one
    :param bearer: whether the connection's password is sent as bearer token; of staging it is the health
        token (the API's connection keeps its admin token there)
    :param timeout: seconds; the plan's ``health.timeout_seconds`` by default
    """

    def __init__(
        self, *, connection: str, path: str, expect_version: bool = False, version: Literal["new", "old"] = "new",
        bearer: bool = False, successes: int = 3, timeout: float | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.connection, self.path = connection, path
        self.expect_version, self.version = expect_version, version
        self.bearer = bearer
        self.successes = successes
        self.timeout = timeout or self.plan.health.timeout_seconds

    def work(self, run: StepRun) -> Evidence:
        from handover.checks.triggers import HealthTrigger

        origin = self.plan.traffic.origin if self.expect_version else None
        wanted = said_by(self.plan, asyncio.run(run.known()), self.version) if origin else ""
        trigger = HealthTrigger(
            check=self.task_id,
            connection=self.connection,
            path=self.path,
            deadline=clock.epoch() + self.timeout,
            bearer=self.bearer,
            origin=origin.model_dump() if origin else None,
            wanted=wanted,
            successes=self.successes,
        )
        raise self.waiting(trigger, self.timeout)


def said_by(plan: Plan, state: DeploymentState, which: Literal["new", "old"]) -> str:
    """What answers of the new or the old version say, see `Plan.said_by`."""
    if which == "new":
        return plan.said_by(state.preview, state.version)
    return plan.said_by(state.stable, state.previous_version)


class StagingHealthy(Healthy):
    """Plan 1.1: the same of staging, which asks for a token."""

    needs = "staging"

    def __init__(self, *, plan: Plan, **kwargs: Any) -> None:
        staging = plan.staging
        connection, path = (staging.connection, staging.health_path) if staging else ("", "")
        super().__init__(plan=plan, connection=connection, path=path, bearer=True, **kwargs)
