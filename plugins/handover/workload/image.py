"""Steps on the release's image: build and push it, find and pin it, scan it, verify its signature (plan 2.2)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from handover.models.evidence import Evidence, Measurement, failed, passed, unknown
from handover.models.image_reference import ImageReference
from handover.step import Step, StepRun
from handover.workload import commands
from handover.workload.job_step import JobStep

if TYPE_CHECKING:
    from handover.kube import jobs
    from handover.plan.image import ImageCheck, ImageJob


class ImagePresent(Step):
    """Plan 2.2: the image is in the registry; keeps it by digest, so that nothing later depends on a moving tag.

    What `BuildImage` has pinned stays pinned.
    """

    def work(self, run: StepRun) -> Evidence:
        from handover.workload.registry import ImageMissing, pinned

        try:
            wanted = asyncio.run(self._wanted(run))
            image = pinned(self.plan, wanted)
        except ImageMissing as missing:
            return failed(self.task_id, str(missing))
        asyncio.run(_keep(run, image))
        run.context["ti"].xcom_push(key="image", value=image)
        return passed(
            self.task_id, f"{wanted} is {image}",
            Measurement(what="image_present", value=1, source=f"registry {self.plan.image.connection}"),
        )  # fmt: skip

    async def _wanted(self, run: StepRun) -> str:
        """As the cluster has it since the deployment was opened: an XCom may be anybody's."""
        async with run.kube() as kube:
            return (await run.state(kube)).image


class _ImageStep(JobStep):
    """Runs a program of the plan's ``image`` section. One that is not configured passes, and says so: a step that
    skipped would skip its branch.
    """

    @property
    def program(self) -> ImageJob | None:
        raise NotImplementedError

    def work(self, run: StepRun) -> Evidence:
        return self.start(run) if self.program else passed(self.task_id, f"not configured: {self.unused}")

    @property
    def unused(self) -> str:
        """What it means that there is nothing to run."""
        raise NotImplementedError

    async def image(self, run: StepRun) -> str:
        """What ``{image}`` stands for."""
        raise NotImplementedError

    async def command(self, run: StepRun) -> jobs.Command:
        from handover.kube import jobs

        assert self.program
        image, version = await self.image(run), run.release.version
        return jobs.Command(
            name=f"{self.plan.cluster.app}-{self.task_id.rpartition('.')[2]}",
            key=f"{run.run_id}/{self.task_id}",
            image=self.program.image,
            argv=tuple(commands.filled(part, image=image, version=version) for part in self.program.command),
            pull_secret=self.plan.image.pull_secret,
            foreign=True,
            env_secret=self.program.env_secret,
        )

    def no_answer(self, result: jobs.JobResult) -> str:
        """Why nothing is known."""
        return f"{self.program.command[0] if self.program else 'it'} gave no answer: {commands.why(result)}"

    def seen(self, result: jobs.JobResult, value: float | None) -> Measurement:
        return self.measured(result, self.task_id.rpartition(".")[2], value)


class BuildImage(_ImageStep):
    """Plan 2.2 steps 1 and 2: a Job builds the image and pushes it, then the registry's digest is kept.

    Without ``image.build`` the pipeline deploys what CI has built: `ImagePresent` verifies and pins that.
    """

    unused = "what CI has built and pushed is deployed"

    @property
    def program(self) -> ImageJob | None:
        return self.plan.image.build

    def work(self, run: StepRun) -> Evidence:
        if self.program and ImageReference.parse(run.release.image).digest:
            return passed(self.task_id, f"nothing to build: the release is asked for by digest, {run.release.image}")
        return super().work(run)

    async def image(self, run: StepRun) -> str:
        async with run.kube() as kube:
            await run.fenced(kube)
        return run.release.image

    async def command(self, run: StepRun) -> jobs.Command:
        return replace(await super().command(run), builds=True)

    def verdict(self, run: StepRun, result: jobs.JobResult) -> Evidence:
        from handover.workload.registry import ImageMissing, pinned

        if not result.succeeded:
            return unknown(self.task_id, f"nothing was built; {self.no_answer(result)}", self.seen(result, None))
        try:
            image = pinned(self.plan, run.release.image)
        except ImageMissing as missing:
            return failed(self.task_id, f"built, but not pushed: {missing}", self.seen(result, 0))
        asyncio.run(_keep(run, image))
        return passed(self.task_id, f"built and pushed {run.release.image} as {image}", self.seen(result, 1))


class _ImageCheck(_ImageStep):
    """Examines the image by digest. Whatever is not a pass refuses the release; only an exit code of the contract says
    that something was found, anything else is UNKNOWN.
    """

    @property
    def program(self) -> ImageCheck | None:
        raise NotImplementedError

    async def image(self, run: StepRun) -> str:
        async with run.kube() as kube:
            return (await run.state(kube)).image

    def verdict(self, run: StepRun, result: jobs.JobResult) -> Evidence:
        assert self.program
        words = commands.last_words(result.output, lines=10, characters=1000)
        if result.succeeded:
            return passed(self.task_id, (words or "exit code 0") + _movable(self.program), self.seen(result, 1))
        if result.succeeded is False and result.exit_code in self.program.fails_with:
            reason = f"{self.program.command[0]} refuses the image (exit code {result.exit_code}): {words}"
            return failed(self.task_id, reason, self.seen(result, 0))
        return unknown(self.task_id, self.no_answer(result), self.seen(result, None))


class ScanImage(_ImageCheck):
    """Plan 2.2: "Image passes security scanning (Trivy)"."""

    unused = "the image is not scanned (image.scan in the plan)"

    @property
    def program(self) -> ImageCheck | None:
        return self.plan.image.scan


class VerifySignature(_ImageCheck):
    """Plan 2.2: whoever built the image signed this digest."""

    unused = "the image's signature is not verified (image.signature in the plan)"

    @property
    def program(self) -> ImageCheck | None:
        return self.plan.image.signature


def _movable(program: ImageJob) -> str:
    """Who passes an image may itself be replaced where it is named by a tag: that is said with each pass."""
    if ImageReference.parse(program.image).digest:
        return ""
    return f"; {program.image} says so, which whoever may push there can replace: name it by digest in the plan"


async def _keep(run: StepRun, image: str) -> None:
    async with run.kube() as kube:
        await run.fenced(kube)
        await run.remember(kube, image=image)
