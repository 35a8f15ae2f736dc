"""The base of every step that runs one Job and concludes from how it ended."""

from __future__ import annotations

import abc
import asyncio
from typing import TYPE_CHECKING, Any, NoReturn

from handover import clock
from handover.models.evidence import Measurement
from handover.step import Step, StepRun

if TYPE_CHECKING:
    from handover.kube import jobs
    from handover.models.evidence import Evidence

LOG_LINES = 2000


class JobStep(Step):
    """Holds no worker slot while its Job runs; what the Job printed is in the task's log.

    `handover.kube.jobs` says when a Job is found again. Subclasses say what to run in `command` and what its end means
    in `verdict`; their `work` calls `start`.

    :param namespace: where to run; the plan's production namespace by default
    """

    def __init__(self, *, namespace: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.namespace = namespace or self.plan.cluster.namespace

    @abc.abstractmethod
    async def command(self, run: StepRun) -> jobs.Command:
        """What to run; its ``key`` names the step in its run."""

    @abc.abstractmethod
    def verdict(self, run: StepRun, result: jobs.JobResult) -> Evidence:
        """What it means that the Job ended like this; ``succeeded`` is None when there is no answer."""

    def start(self, run: StepRun) -> NoReturn:
        """Submits the Job, or finds it, and gives the worker slot back until it has ended."""
        from handover.workload.triggers import JobTrigger

        cluster = self.plan.cluster
        name = asyncio.run(self._submit(run))
        seconds = cluster.job_timeout_seconds
        trigger = JobTrigger(
            connection=cluster.connection, namespace=self.namespace, deadline=clock.epoch() + seconds, job=name
        )
        raise self.waiting(trigger, seconds)

    async def _submit(self, run: StepRun) -> str:
        from handover.kube import jobs

        command = await self.command(run)
        async with run.kube(self.namespace) as kube:
            name = await jobs.submit(kube, self.plan.cluster, command)
        self.log.info("Job %s in %s runs: %s", name, self.namespace, " ".join(command.argv))
        return name

    def resume(self, context: Any, event: Any) -> str:
        run = self.step_run(context)
        result = asyncio.run(self._result(run, event))
        for line in result.output.splitlines()[-LOG_LINES:]:
            self.log.info("%s", line)
        evidence = self.verdict(run, result)
        asyncio.run(self._answered(run, result))
        return self.conclude(context, evidence)

    async def _result(self, run: StepRun, event: dict[str, Any]) -> jobs.JobResult:
        from handover.kube import jobs

        async with run.kube(self.namespace) as kube:
            return await jobs.result(kube, jobs.JobEnd(**event), self.plan.cluster.container)

    async def _answered(self, run: StepRun, result: jobs.JobResult) -> None:
        from handover.kube import jobs

        async with run.kube(self.namespace) as kube:
            await jobs.answered(kube, result)

    def measured(self, result: jobs.JobResult, what: str, value: float | None) -> Measurement:
        """``value``: 1 for a yes, 0 for a no, None when there is no answer."""
        return Measurement(what=what, value=value, source=f"job {result.job}")
