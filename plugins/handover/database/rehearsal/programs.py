"""Programs of a release on the copy: its own migrations, and the tests of the old and of the new version.

They are Jobs whose environment is the plan's ``rehearsal.settings_secret``, with nothing of production's. What they
print may quote rows, so nobody is told it: a Job's log is there for who may read it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from handover.kube import jobs
from handover.kube.jobs import JobResult
from handover.outside import outside
from handover.plan.parts import required

if TYPE_CHECKING:
    from handover.plan.model import Plan
    from handover.plan.rehearsal import RehearsalRules

AIM = 'aim=${DATABASE_URL%%\\?*} && echo "database=${aim##*/}"'
OLD, NEW = "the old version", "the new version"


class Astray(Exception):
    """The settings do not lead to the copy; nothing was run with them."""


@dataclass(frozen=True)
class Programs:
    """``new`` and ``old``: images by digest, ``old`` empty where nobody knows what serves. ``key``: who asks."""

    plan: Plan
    key: str
    new: str
    old: str = ""

    @property
    def rules(self) -> RehearsalRules:
        return required(self.plan.rehearsal, "rehearsal")

    def aimed_at(self, name: str) -> None:
        """Raises `Astray` unless the settings' DATABASE_URL names the copy, as no database of production is called."""
        done = self.run("aim", self.new, ("sh", "-c", AIM))
        if done.succeeded is not True or f"database={name}" not in done.printed.split():
            secret = required(self.rules.settings_secret, "rehearsal.settings_secret")
            raise Astray(f"DATABASE_URL of the Secret {secret} does not name the copy, {name}")

    def tested(self, schema: str, versions: Sequence[str]) -> dict[str, list[str]]:
        """What is wrong with each version on the schema that the copy has now."""
        found: dict[str, list[str]] = {version: [] for version in versions}
        for version in versions:
            if not (image := {OLD: self.old, NEW: self.new}[version]):
                found[version] = [f"nobody knows the image of {version}, which is to be tested on {schema}"]
                continue
            for name, command in self.rules.application_tests.items():
                done = self.run(f"{name}/{version}/{schema}", image, command)
                if done.succeeded is not True:
                    found[version].append(f"{name} of {version} fails on {schema}: {self.why(done)}")
        return found

    def why(self, done: JobResult) -> str:
        reason = done.reason or f"it ended with {done.exit_code}"
        return f"{reason} (see the log of Job {done.job})"

    def run(self, what: str, image: str, argv: tuple[str, ...]) -> JobResult:
        return asyncio.run(self._run(what, image, argv))

    async def _run(self, what: str, image: str, argv: tuple[str, ...]) -> JobResult:
        cluster = self.plan.cluster
        command = jobs.Command(
            name=f"{cluster.app}-rehearsal", key=f"{self.key}/rehearsal/{what}", image=image, argv=argv,
            pull_secret=self.plan.image.pull_secret, settings=False,
            env_secret=required(self.rules.settings_secret, "rehearsal.settings_secret"),
        )  # fmt: skip
        async with outside().kube(cluster.connection, cluster.namespace) as kube:
            done = await jobs.run(kube, cluster, command)
            await jobs.answered(kube, done)
        return done
