"""What the week after a deployment is judged by without asking anybody (plan "Post-Deployment Success (Week 1)")."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from handover.checks import verdicts
from handover.coordination.serving import serving
from handover.models.evidence import Evidence, Measurement, failed, passed, unknown
from handover.record import week
from handover.step import StepRun
from handover.workflows.followups.steps import FollowUp, followed

if TYPE_CHECKING:
    from handover.checks.client import Load
    from handover.record.ledger import Record

SOURCE = "service"
PAUSE_SECONDS = 5.0
"""Between two series: nobody waits for them, and a neighbour's short burst of work is over by then."""


def _record(run: StepRun) -> Record:
    from handover.record.ledger import ledger

    return ledger(run.plan.recorded.connection).read(followed(run.context).deployment)


class NoUnexpectedIssues(FollowUp):
    """No incident and no rollback in this deployment and those after it."""

    def work(self, run: StepRun) -> Evidence:
        from handover.record.ledger import ledger

        book, began = ledger(self.plan.recorded.connection), _record(run).deployment.started_at
        since = book.deployments(since=began, plan=self.plan.name)
        return week.quiet(self.task_id, book.read_all(since, samples=False) if since else [])


class Measured(FollowUp):
    """Asks the service as plan 4.2 does, and judges what comes back; a service that cannot be asked is not known."""

    def work(self, run: StepRun) -> Evidence:
        import aiohttp

        from handover.checks.client import LoginFailed, measure_until_good

        record = _record(run)

        def judge(load: Load) -> Evidence:
            return verdicts.answered(self.task_id, load, self.plan.thresholds, SOURCE) or self.judge(load, record)

        try:
            return asyncio.run(measure_until_good(self.plan, judge, PAUSE_SECONDS))
        except (LoginFailed, aiohttp.ClientError, TimeoutError) as error:
            return unknown(self.task_id, f"the service cannot be asked: {type(error).__name__}: {error}")

    def judge(self, load: Load, record: Record) -> Evidence:
        """Of a series that was answered well enough."""
        raise NotImplementedError


class StableErrorRates(Measured):
    """Requests are answered now as they were in the deployment's watch."""

    def judge(self, load: Load, record: Record) -> Evidence:
        then = week.worst_error_rate(record)
        before = "no samples of the deployment" if then is None else f"at most {then:.2%} during the deployment"
        text = f"{len(load.failures)} of {load.requests} requests failed; {before}"
        return passed(self.task_id, text, *verdicts.summary(load, SOURCE))


class ConsistentPerformance(Measured):
    """As fast as plan 4.2 measured it in the deployment."""

    def judge(self, load: Load, record: Record) -> Evidence:
        return verdicts.compare(
            self.task_id, week.performance_then(record), verdicts.summary(load, SOURCE), self.plan.thresholds,
            self.plan.performance.concurrency,
        )  # fmt: skip


class MonitoringWorks(FollowUp):
    """What a deployment watches by gives numbers now: the metrics of every pod that serves, and the database."""

    def work(self, run: StepRun) -> Evidence:
        return asyncio.run(self._look(run))

    async def _look(self, run: StepRun) -> Evidence:
        from handover.analysis import preflight
        from handover.telemetry.pods import PodReader
        from handover.workflows.watch.sources import databases

        silent: list[str] = []
        looks: dict[str, list[preflight.Look]] = {}
        try:
            async with run.kube() as kube:
                now = await serving(kube, run.router(kube), self.plan)
                looks = await preflight.looks_at(PodReader(kube, self.plan, now.colour))
            silent += [f"pods: {one}" for one in preflight.problems(looks) if preflight.matters(one, self.plan)]
        except Exception as error:
            silent.append(f"pods: {type(error).__name__}: {error}")
        measured: list[Measurement] = []
        try:
            for database in databases(self.plan):
                measured += await database.measure()
        except Exception as error:
            silent.append(f"database: {type(error).__name__}: {error}")
        if silent:
            return failed(self.task_id, "; ".join(silent), *measured)
        return passed(self.task_id, f"{len(looks)} pods and the database give numbers", *measured)
