"""Steps on the release itself: its Deployment, its own commands, and the colour that is no longer needed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pms.models.evidence import Evidence, Measurement, Verdict, failed, passed
from pms.step import Job, Step
from pms.workload import commands, manifests
from pms.workload.job_step import JobStep

if TYPE_CHECKING:
    from pms.kube import jobs
    from pms.kube.client import Kube
    from pms.models.deployment import DeploymentState


class DeployIdleColour(Step):
    """Plan 2.2 step 3: applies the new release to the idle colour. Applying twice changes nothing the second time.

    Fails, and changes nothing, when the Service sends traffic to that colour.
    """

    def work(self, job: Job) -> Evidence:
        return asyncio.run(self._apply(job))

    async def _apply(self, job: Job) -> Evidence:
        from pms.workload.registry import ImageMissing

        cluster, colour = self.plan.cluster, job.ticket.new_colour
        async with job.kube() as kube:
            try:
                image = await _new_image(job, kube)
            except ImageMissing as missing:
                return failed(self.task_id, str(missing))
            version = (await job.state(kube)).version
            body = manifests.deployment(self.plan, colour, version, image)
            await job.fenced(kube)
            if manifests.selects(cluster, await kube.get(manifests.SERVICES, cluster.service), colour):
                return failed(
                    self.task_id,
                    f"Service {cluster.service} sends traffic to {colour}: a release is never deployed onto the "
                    "colour that serves; nothing was changed",
                )
            await kube.apply(manifests.DEPLOYMENTS, body)
        return passed(self.task_id, f"{body['metadata']['name']} is to run {version} ({image})")


class ReleaseCommand(JobStep):
    """Runs a command of a release as a Job in the release's own image, and passes when it exits 0.

    Used for the tests of 1.1, the smoke test of 2.2 step 5, the database checks of 2.3 and 3.4, and the smoke test of
    the old colour on the new schema (3.3).

    :param command: program and arguments; ``{url}`` in them is the address of ``url_connection``
    :param image: of the ``new`` release or of the ``old`` one
    :param namespace: where to run; the plan's production namespace by default
    :param env: more environment variables; ``{url}`` in them is replaced as well
    :param check: what the evidence is called; the task id by default
    :param remember_compatible: keep the answer as "the old version runs on the new schema" and pass either way:
        a *no* does not harm the deployment, it decides what a later rollback has to do with the database. Only a
        command that gives no answer fails the step.
    """

    def __init__(
        self, *, command: Sequence[str], image: Literal["new", "old"] = "new",
        namespace: str | None = None, url_connection: str | None = None,
        env: Mapping[str, str] | None = None, check: str | None = None, remember_compatible: bool = False,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.argv, self.image = tuple(command), image
        self.namespace = namespace or self.plan.cluster.namespace
        self.url_connection, self.env = url_connection, dict(env or {})
        self.check = check or self.task_id
        self.remember_compatible = remember_compatible

    def work(self, job: Job) -> Evidence:
        from pms.workload.registry import ImageMissing

        try:
            return self.start(job)
        except ImageMissing as missing:
            return failed(self.check, str(missing))

    async def command(self, job: Job) -> jobs.Command:
        from pms.kube import jobs

        async with job.kube() as kube:
            old = (await job.state(kube)).previous_image
            image = old if self.image == "old" else await _new_image(job, kube)
        url = await self._url()
        return jobs.Command(
            name=f"{self.plan.cluster.app}-{self.check.rpartition('.')[2]}",
            key=f"{job.run_id}/{self.task_id}",
            image=image,
            argv=tuple(commands.filled(part, url=url) for part in self.argv),
            env={key: commands.filled(value, url=url) for key, value in self.env.items()},
            pull_secret=self.plan.image.pull_secret,
        )

    async def _url(self) -> str:
        if self.url_connection is None:
            return ""
        from airflow.providers.common.compat.connection import get_async_connection

        from pms.http import base_url

        return base_url(await get_async_connection(self.url_connection))

    def verdict(self, job: Job, event: dict[str, Any], ended: jobs.Ended) -> Evidence:
        """No answer is UNKNOWN."""
        succeeded, words = event["succeeded"], commands.last_words(ended.output)
        value = None if succeeded is None else float(succeeded)
        seen = Measurement(what=self.check, value=value, source=f"job {event['job']}")
        if succeeded:
            evidence = passed(self.check, words or "exit code 0", seen)
        else:
            reason = "; ".join(part for part in (event["reason"], f"it printed: {words}" if words else "") if part)
            kind = Verdict.UNKNOWN if succeeded is None else Verdict.FAIL
            evidence = Evidence(check=self.check, verdict=kind, reason=reason or "it failed", measurements=(seen,))
        if self.remember_compatible and succeeded is not None:
            return asyncio.run(self._compatible(job, succeeded, evidence))
        return evidence

    async def _compatible(self, job: Job, compatible: bool, evidence: Evidence) -> Evidence:
        async with job.kube() as kube:
            await job.change(kube, lambda old: _with_answer(old, compatible))
        if compatible:
            return evidence
        reason = f"warning: the old version does not run on the new schema, a rollback undoes it: {evidence.reason}"
        return passed(self.check, reason, *evidence.measurements)


class _ScaleDown(Step):
    """Scales one colour to 0, once it answers nobody; refuses while the Service selects it.

    :param quiet_seconds: how long no request may come before the colour counts as idle
    :param timeout: seconds to wait for that; the plan's ``traffic.drain_timeout_seconds`` by default
    """

    def __init__(self, *, quiet_seconds: float = 3.0, timeout: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.quiet_seconds = quiet_seconds
        self.timeout = timeout or self.plan.traffic.drain_timeout_seconds

    def colour(self, job: Job) -> str:
        raise NotImplementedError

    def selected(self, colour: str) -> Evidence:
        """What it means that the Service sends traffic to the colour."""
        raise NotImplementedError

    def busy(self, colour: str, reason: str) -> Evidence | None:
        """What it means that the colour still answers requests; None: scale down nevertheless."""
        raise NotImplementedError

    def work(self, job: Job) -> Evidence:
        from pms.workload.triggers import QuietTrigger

        cluster, colour = self.plan.cluster, self.colour(job)
        if evidence := asyncio.run(self._nothing_to_do(job, colour)):
            return evidence
        trigger = QuietTrigger(
            connection=cluster.connection,
            namespace=cluster.namespace,
            deadline=time.time() + self.timeout,
            labels=cluster.selector_of(colour),
            port=cluster.port,
            quiet_seconds=self.quiet_seconds,
        )
        raise self.waiting(trigger, self.timeout)

    def resume(self, context: Any, event: Any) -> str:
        job = self.job(context)
        colour = self.colour(job)
        if not event["quiet"] and (evidence := self.busy(colour, event["reason"])):
            self.log.warning("%s", evidence.reason)
            return self.conclude(context, evidence)
        return self.conclude(context, asyncio.run(self._scale_down(job, colour, event["reason"])))

    async def _nothing_to_do(self, job: Job, colour: str) -> Evidence | None:
        name = self.plan.cluster.deployment_of(colour)
        async with job.kube() as kube:
            if await self._serves(kube, colour):
                return self.selected(colour)
            deployment = await kube.find(manifests.DEPLOYMENTS, name)
        if deployment is None:
            return passed(self.task_id, f"there is no {name}")
        return passed(self.task_id, f"{name} is scaled to 0") if not deployment["spec"].get("replicas", 1) else None

    async def _scale_down(self, job: Job, colour: str, reason: str) -> Evidence:
        name = self.plan.cluster.deployment_of(colour)
        async with job.kube() as kube:
            await job.fenced(kube)
            if await self._serves(kube, colour):
                return self.selected(colour)
            await kube.merge(manifests.DEPLOYMENTS, name, {"spec": {"replicas": 0}})
        return passed(self.task_id, f"{name} is scaled to 0: {reason}")

    async def _serves(self, kube: Kube, colour: str) -> bool:
        cluster = self.plan.cluster
        return manifests.selects(cluster, await kube.get(manifests.SERVICES, cluster.service), colour)


class RetireColour(_ScaleDown):
    """End of Phase 5: scales the old colour down, only when it serves nothing.

    A good deployment does not fail for it: a colour that is still busy is left running, with a warning.
    """

    def colour(self, job: Job) -> str:
        return job.ticket.old_colour

    def selected(self, colour: str) -> Evidence:
        return failed(self.task_id, f"Service {self.plan.cluster.service} sends traffic to {colour}: it is not retired")

    def busy(self, colour: str, reason: str) -> Evidence | None:
        return passed(
            self.task_id,
            f"warning: {colour} is left running, it is not idle after {self.timeout:g} s: {reason}",
        )


class RemoveIdleColour(_ScaleDown):
    """Rollback: scales the new colour to 0, once traffic is off it (or never was on it)."""

    def colour(self, job: Job) -> str:
        return job.ticket.new_colour

    def selected(self, colour: str) -> Evidence:
        return failed(
            self.task_id,
            f"Service {self.plan.cluster.service} sends traffic to {colour}: move traffic first; nothing was changed",
        )

    def busy(self, colour: str, reason: str) -> Evidence | None:
        self.log.warning("%s is still busy after %g s and ends nevertheless: %s", colour, self.timeout, reason)
        return None


def _with_answer(state: DeploymentState, compatible: bool) -> DeploymentState:
    return state.model_copy(update={"migration": state.migration.model_copy(update={"compatible": compatible})})


async def _new_image(job: Job, kube: Kube) -> str:
    """The release's image by digest: as `ImagePresent` kept it, or resolved now. Raises what `resolve` raises."""
    from pms.workload.registry import pinned

    image = (await job.state(kube)).image
    return image if "@sha256:" in image else await asyncio.to_thread(pinned, job.plan, image)
