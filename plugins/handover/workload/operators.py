"""Steps on the release itself: its Deployment, and its own commands."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from handover.coordination import promotion, size
from handover.coordination.routing import DEPLOYMENTS, move
from handover.models.evidence import Evidence, failed, passed, unknown
from handover.models.image_reference import ImageReference
from handover.ports.kube import Conflict
from handover.step import Step, StepRun
from handover.workload import commands, manifests, quota
from handover.workload.job_step import JobStep

if TYPE_CHECKING:
    from handover.kube import jobs
    from handover.models.deployment import DeploymentState
    from handover.ports.kube import Json, Kube


class DeployIdleColour(Step):
    """Plan 2.2 step 3: applies the new release to the idle colour, with as many pods as serve now. Applying twice
    changes nothing the second time.

    Fails, and changes nothing, when traffic goes to that colour, or when a quota leaves no room for it.
    """

    async def act(self, run: StepRun) -> Evidence:
        from handover.workload.registry import ImageMissing

        colour = run.token.preview
        async with run.kube() as kube:
            try:
                image = await _new_image(run, kube)
            except ImageMissing as missing:
                return failed(self.task_id, str(missing))
            version = (await run.state(kube)).version
            body = manifests.deployment(self.plan, colour, version, image, run.token.generation)
            while True:
                with suppress(Conflict):  # somebody has changed the Deployment since it was read: look again
                    return await self._apply(run, kube, body) or passed(
                        self.task_id, await self._told(run, kube, body, f"{version} ({image})")
                    )

    async def _apply(self, run: StepRun, kube: Kube, body: Json) -> Evidence | None:
        """None when it is applied. The Deployment is read before anything is looked at: a step that was held up on the
        way finds it changed by whoever deploys by now.
        """
        found = await kube.find(DEPLOYMENTS, body["metadata"]["name"])
        if lacking := await quota.fit(kube, self.plan.cluster, body, run.token.stable):
            return failed(self.task_id, f"nothing was changed: {lacking}")
        await run.fenced(kube)
        try:
            await move(run.router(kube), partial(promotion.claim, token=run.token), at_least=0)
        except promotion.Refused as error:
            return failed(self.task_id, str(error))
        read = {"resourceVersion": found["metadata"]["resourceVersion"]} if found else {}
        await kube.apply(DEPLOYMENTS, {**body, "metadata": {**body["metadata"], **read}})
        return None

    async def _told(self, run: StepRun, kube: Kube, body: Json, what: str) -> str:
        pods = size.declared(body)
        warning = await size.autoscaled(kube, self.plan.cluster, run.token)
        return "; ".join(filter(None, (f"{body['metadata']['name']} is to run {what} in {pods} pods", warning)))


class ReleaseCommand(JobStep):
    """Runs a command of a release as a Job in the release's own image, and passes when it exits 0.

    Used for the tests of 1.1, the smoke test of 2.2 step 5, the database checks of 2.3 and 3.4, and the smoke test of
    the old colour on the new schema (3.3).

    :param command: program and arguments, None where the plan has none; ``{url}`` in them is the address of
        ``url_connection``
    :param image: of the ``new`` release or of the ``old`` one
    :param env: more environment variables; ``{url}`` in them is replaced as well
    :param check: what the evidence is called; the task id by default
    :param remember_compatible: keep the answer as "the old version runs on the new schema" and pass either way:
        a *no* does not harm the deployment, it decides what a later rollback has to do with the database. Only a
        command that gives no answer fails the step.
    """

    def __init__(
        self, *, command: Sequence[str] | None, image: Literal["new", "old"] = "new", url_connection: str | None = None,
        env: Mapping[str, str] | None = None, check: str | None = None, remember_compatible: bool = False,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.argv, self.image = tuple(command or ()), image
        self.url_connection, self.env = url_connection, dict(env or {})
        self.check = check or self.task_id
        self.remember_compatible = remember_compatible

    def left_out(self) -> str:
        return super().left_out() if self.argv else "left out: the plan has no command for it"

    def work(self, run: StepRun) -> Evidence:
        from handover.workload.registry import ImageMissing

        try:
            return self.start(run)
        except ImageMissing as missing:
            return failed(self.check, str(missing))

    async def command(self, run: StepRun) -> jobs.Command:
        from handover.kube import jobs

        async with run.kube() as kube:
            old = (await run.state(kube)).previous_image
            image = old if self.image == "old" else await _new_image(run, kube)
        url = await self._url()
        return jobs.Command(
            name=f"{self.plan.cluster.app}-{self.check.rpartition('.')[2]}",
            key=f"{run.run_id}/{self.task_id}",
            image=image,
            argv=tuple(commands.filled(part, url=url) for part in self.argv),
            env={key: commands.filled(value, url=url) for key, value in self.env.items()},
            pull_secret=self.plan.image.pull_secret,
        )

    async def _url(self) -> str:
        if self.url_connection is None:
            return ""
        from airflow.providers.common.compat.connection import get_async_connection

        from handover.adapters.http import base_url

        return base_url(await get_async_connection(self.url_connection))

    def verdict(self, run: StepRun, result: jobs.JobResult) -> Evidence:
        """No answer is UNKNOWN."""
        succeeded = result.succeeded
        seen = self.measured(result, self.check, None if succeeded is None else float(succeeded))
        if succeeded:
            evidence = passed(self.check, commands.last_words(result.output) or "exit code 0", seen)
        else:
            evidence = (unknown if succeeded is None else failed)(self.check, commands.why(result), seen)
        if self.remember_compatible and succeeded is not None:
            return asyncio.run(self._compatible(run, succeeded, evidence))
        return evidence

    async def _compatible(self, run: StepRun, compatible: bool, evidence: Evidence) -> Evidence:
        async with run.kube() as kube:
            await run.change(kube, lambda old: _with_answer(old, compatible))
        if compatible:
            return evidence
        reason = f"warning: the old version does not run on the new schema, a rollback undoes it: {evidence.reason}"
        return passed(self.check, reason, *evidence.measurements)


def _with_answer(state: DeploymentState, compatible: bool) -> DeploymentState:
    return state.model_copy(update={"migration": state.migration.model_copy(update={"compatible": compatible})})


async def _new_image(run: StepRun, kube: Kube) -> str:
    """The release's image by digest: as `ImagePresent` kept it, or resolved now. Raises what `resolve` raises."""
    from handover.workload.registry import pinned

    image = (await run.state(kube)).image
    return image if ImageReference.parse(image).pinned else await asyncio.to_thread(pinned, run.plan, image)
