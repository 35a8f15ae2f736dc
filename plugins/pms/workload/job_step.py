"""The base of every step that runs one Job and concludes from how it ended."""

from __future__ import annotations

import abc
import asyncio
import time
from typing import TYPE_CHECKING, Any, NoReturn

from pms.step import Job, Step
from pms.workload import commands

if TYPE_CHECKING:
    from pms.kube import jobs
    from pms.models.evidence import Evidence

LOG_LINES = 2000


class JobStep(Step):
    """Holds no worker slot while its Job runs; what the Job printed is in the task's log.

    `pms.workload.commands` says when a Job is found again. Subclasses say what to run in `command` and what its end
    means in `verdict`; their `work` calls `start`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.namespace = self.plan.cluster.namespace

    @abc.abstractmethod
    async def command(self, job: Job) -> jobs.Command:
        """What to run; its ``key`` names the step in its run."""

    @abc.abstractmethod
    def verdict(self, job: Job, event: dict[str, Any], ended: jobs.Ended) -> Evidence:
        """``event`` is that of `pms.workload.triggers.JobTrigger`: ``succeeded`` is None when there is no answer."""

    def start(self, job: Job) -> NoReturn:
        """Submits the Job, or finds it, and gives the worker slot back until it has ended."""
        from pms.workload.triggers import JobTrigger

        cluster = self.plan.cluster
        name = asyncio.run(self._submit(job))
        seconds = cluster.job_timeout_seconds
        trigger = JobTrigger(
            connection=cluster.connection, namespace=self.namespace, deadline=time.time() + seconds, job=name
        )
        raise self.waiting(trigger, seconds)

    async def _submit(self, job: Job) -> str:
        command = await self.command(job)
        async with job.kube(self.namespace) as kube:
            name = await commands.submit(kube, self.plan.cluster, command)
        self.log.info("Job %s in %s runs: %s", name, self.namespace, " ".join(command.argv))
        return name

    def resume(self, context: Any, event: Any) -> str:
        job = self.job(context)
        ended = asyncio.run(self._ended(job, event["job"]))
        for line in ended.output.splitlines()[-LOG_LINES:]:
            self.log.info("%s", line)
        evidence = self.verdict(job, event, ended)
        asyncio.run(self._answered(job, event["job"]))
        return self.conclude(context, evidence)

    async def _ended(self, job: Job, name: str) -> jobs.Ended:
        from pms.kube import jobs

        async with job.kube(self.namespace) as kube:
            return await jobs.ended(kube, name, self.plan.cluster.container)

    async def _answered(self, job: Job, name: str) -> None:
        async with job.kube(self.namespace) as kube:
            await commands.answered(kube, name)
