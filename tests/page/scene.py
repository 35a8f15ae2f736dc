"""A deployment on the page's stage: what its steps, its watch and its people would leave, left by a test."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from handover.coordination import heartbeat, promotion
from handover.coordination import state as states
from handover.coordination.lock import release
from handover.coordination.routing import move
from handover.models.deployment import DeploymentState, FencingToken, Status
from handover.models.evidence import Measurement, Verdict
from handover.models.heartbeat import Heartbeat
from handover.models.record import Check, Deployment, Outcome, RecordEntry, Sample
from handover.people.details import details
from handover.ports.airflow import run_path
from handover.record.ledger import Ledger
from tests.page.airflow import AirflowPages
from tests.support.page import IMAGE, Desk
from tests.support.steps import RUN_ID, opened

Change = Callable[[DeploymentState], DeploymentState]


@dataclass
class Scene:
    """Nothing was ever deployed. Everything is written to the real ledger and to the twins."""

    desk: Desk
    ledger: Ledger
    airflow: AirflowPages
    url: str = ""
    began: float = 0.0
    token: FencingToken | None = None
    last: float = field(default_factory=time.time)

    @property
    def page(self) -> str:
        return f"{self.url}/handover/#/plans/{self.desk.plan.name}"

    async def record(self, *entries: RecordEntry) -> None:
        await asyncio.to_thread(self.ledger.write, entries)

    async def begin(self, *, ago: float = 0.0, reason: str = "the release of the week", **known: Any) -> None:
        """A deployment is opened. ``ago``: that many seconds before now."""
        kube, plan = self.desk.service.kube(), self.desk.plan
        self.began = self.last = time.time() - ago
        facts = {"reason": reason, "started_at": self.began} | known
        self.token = await opened(kube, plan.lock_name, IMAGE, **facts)
        entry = Deployment(
            plan=plan.name, version="v1.1.0", image=IMAGE, previous_version="v1.0.0", previous_image=IMAGE,
            method="sql", requested_by="lead", reason=reason, started_at=self.began,
        )  # fmt: skip
        await self.record(entry.of(RUN_ID, RUN_ID, "open"))

    async def step(
        self, name: str, verdict: Verdict = Verdict.PASS, reason: str = "fine", *, took: float = 4.0, run: str = RUN_ID,
        **measured: float,
    ) -> None:  # fmt: skip
        """A step has ended, ``took`` seconds after the one before."""
        begun, self.last = self.last, min(self.last + took, time.time())
        made = Check(
            try_number=1, check_name=name.rpartition(".")[2], verdict=verdict, reason=reason, started_at=begun,
            at=self.last, measurements=tuple(Measurement(what=k, value=v, source="probe") for k, v in measured.items()),
        )  # fmt: skip
        await self.record(made.of(RUN_ID, run, name))

    def under_way(self, *tasks: tuple[str, str], ago: float = 1.0, dag: str = "", run: str = RUN_ID) -> None:
        """What Airflow says is under way: task and state."""
        since = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() - ago))
        found = [{"task_id": task, "state": state, "start_date": since, "try_number": 1} for task, state in tasks]
        path = f"{run_path(dag or self.desk.plan.deployment_dag_id, run)}/taskInstances"
        self.desk.airflow.answers[path] = {"task_instances": found}

    async def state(self, **known: Any) -> None:
        assert self.token is not None
        change: Change = lambda old: old.model_copy(update=known)  # noqa: E731
        await states.update(self.desk.service.kube(), self.desk.plan.lock_name, self.token, change)

    async def switch(self, *, at: float | None = None) -> None:
        """Clients meet the new version."""
        at, token = at or time.time(), self.token
        assert token is not None
        plan, kube = self.desk.plan, self.desk.service.kube()
        router = self.desk.service.outside().router(kube, plan.cluster, plan.cluster.service)
        await move(router, partial(promotion.overlap, token=token, at=at))
        await move(router, partial(promotion.promote, token=token))
        await self.state(switched_at=at)

    async def beat(self, verdict: Verdict = Verdict.PASS, reason: str = "no breach", **more: Any) -> None:
        """A sign of life of the watch."""
        assert self.token is not None
        sign = Heartbeat(watcher="airflow", at=time.time(), armed=True, verdict=verdict, reason=reason, **more)
        await heartbeat.beat(self.desk.service.kube(), self.desk.plan.lock_name, self.token, sign)

    async def measure(self, seconds: int, *, spike: bool = False, until: float | None = None) -> None:
        """A watch has seen the service for so long, until now."""
        until = until or time.time()
        found: list[RecordEntry] = []
        for n in range(seconds):
            bad = spike and n > seconds - 12
            seen: list[tuple[str, float, str]] = [
                ("error_rate", 0.06 if bad else 0.0002 * (n % 7 == 0), ""),
                ("p50_seconds", 0.03 + 0.01 * math.sin(n / 9), "s"),
                ("p99_seconds", (1.6 if bad else 0.3) + 0.08 * math.sin(n / 7), "s"),
                ("cpu", 0.3 + 0.1 * math.sin(n / 20), ""),
                ("memory", 0.4, ""),
                ("replication_lag_seconds", 0.3 + 0.2 * math.cos(n / 5), "s"),
            ]
            at = until - seconds + n
            found += [
                Sample(what=w, source="pods", at=at, value=v, unit=u).of(RUN_ID, RUN_ID, "watch") for w, v, u in seen
            ]
        await self.record(*found)

    async def soaking(self) -> None:
        """Ten minutes after the cutover, all well: the soak up to the decision point is under way."""
        await self.begin(ago=1500)
        for name, reason in {
            "phase_1_pre_deployment.staging_verification.unit_tests": "412 tests passed",
            "phase_1_pre_deployment.staging_verification.recent_errors": "1 line with ERROR in 30 min, 5 are allowed",
            "phase_1_pre_deployment.database_backup.backup": "118 MB in 42 s",
            "phase_1_pre_deployment.briefing": "confirmed by Deployment Lead",
            "phase_2_application_deployment.deploy_new_version.deploy_idle_colour": "green runs v1.1.0",
            "phase_2_application_deployment.deploy_new_version.smoke_tests": "38 requests answered as expected",
            "phase_2_application_deployment.deploy_new_version.switch_traffic": "20 of 20 new connections reach v1.1.0",
            "phase_3_database_migration.execute_migration": "1 migration applied in 3 s, no lock over 20 ms",
            "phase_4_post_deployment_testing.critical_paths": "12 paths walked, all as expected",
        }.items():
            await self.step(name, reason=reason, took=100)
        await self.switch(at=time.time() - 600)
        await self.beat(reason="error rate 0.02 %, p99 310 ms: inside every limit", clean_since=time.time() - 590)
        await self.measure(600)
        self.under_way(("phase_5_monitoring.stabilization", "deferred"), ago=300)

    async def end(self, status: Status = Status.SUCCEEDED, **known: Any) -> None:
        """The deployment is over, the lock free."""
        at, token = time.time(), self.token
        assert token is not None
        self.under_way()
        await self.state(status=status, finished_at=at, **known)
        await release(self.desk.service.kube(), self.desk.plan.lock_name, token.generation)
        await self.record(Outcome(status=status, at=at, switched_at=self.began + 1).of(RUN_ID, RUN_ID, "close"))

    def asks(self, task: str, subject: str, *, until: float, role: str = "lead", **more: Any) -> dict[str, Any]:
        """A question of the deployment waits; its text is the product's own."""
        plan = self.desk.plan
        means = {"Fix": "the version stays, and the watch goes on.", "Rollback": "traffic goes back to v1.0.0 at once."}
        body = details(
            f"{plan.title} v1.1.0, after v1.0.0: {RUN_ID}", plan.may_answer(role), until, "Rollback", means=means,
            known=more.pop("known", ()),
        )  # fmt: skip
        users = {user: one.title for one in plan.may_answer(role) for user in one.users}
        asked = {"options": ["Fix", "Rollback"], "body": body, "users": users} | more
        return self.airflow.ask(plan.deployment_dag_id, RUN_ID, task, subject, **asked)
