"""The release that is asked for, and what the current deployment knows about itself. No I/O here."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import AliasChoices, Field

from handover import clock
from handover.models.evidence import Frozen
from handover.models.incident import Incident
from handover.models.measures import Phase

MigrationMethod = Literal["sql", "prisma", "tool", "none"]


class Release(Frozen):
    """What somebody asked to deploy; checked by `handover.workflows.deployment.request`."""

    version: str
    image: str
    """``repository:tag`` or ``repository@sha256:...``."""
    method: MigrationMethod = "sql"
    banner: bool = True
    reason: str
    window_override: bool = False
    window_override_reason: str = ""
    readiness_override_reason: str = ""

    @property
    def why(self) -> str:
        """The reason as it is recorded: with those of overrides, if there are any."""
        window = f"window overridden: {self.window_override_reason}" if self.window_override else ""
        readiness = f"readiness overridden: {self.readiness_override_reason}" if self.readiness_override_reason else ""
        return "; ".join(part for part in (self.reason, window, readiness) if part)


class FencingToken(Frozen):
    """Proof that a deployment or rollback holds the lock: whoever changes production shows it.

    ``generation`` grows with every holder; a step with an older one is fenced out. ``stable``: the colour that served
    before the deployment; ``preview``: the one that the new version goes to.
    """

    deployment: str
    generation: int
    stable: str
    preview: str


class Status(StrEnum):
    DEPLOYING = "deploying"
    ROLLING_BACK = "rolling_back"
    SUCCEEDED = "succeeded"
    ROLLED_BACK = "rolled_back"
    ROLLBACK_FAILED = "rollback_failed"
    GIVEN_UP = "given_up"
    """It took the lock and was never opened; nothing was changed."""


class BackupRecord(Frozen):
    """Where a verified backup lies, and what is in it: rows of each table, number of constraints and of indices, and
    the digest of each table's rows where one was worked out.
    """

    uri: str
    size_bytes: int
    sha256: str
    taken_at: float
    counts: dict[str, int] = {}
    objects: dict[str, int] = {}
    digests: dict[str, str] = {}


class Sketch(Frozen):
    """A little of what a table held: by column a byte of the hash of the value at each of some keys from ``low`` to
    ``high``, as base64, and what kind of values are hashed alike; and of a small table the digest of all rows up to
    ``high``.
    """

    low: int
    high: int
    places: dict[str, str]
    kinds: dict[str, str] = {}
    digest: str = ""


class MigrationRecord(Frozen):
    """What the migration did, as far as a rollback has to know.

    ``planned`` and ``applied``: names that this deployment set out to apply and has applied, oldest first.
    ``compatible``: whether the old colour passed its smoke test on the new schema (None: not asked yet). ``corrupt``:
    data lost or changed against the rules. ``counts``: rows of each counted table before the first change;
    ``last_keys``: the highest integer key of each at that moment; ``sketches``: what they held then.
    """

    method: MigrationMethod = "sql"
    planned: tuple[str, ...] = ()
    applied: tuple[str, ...] = ()
    known: tuple[str, ...] | None = None
    """What a tool of the release had applied before this deployment; None: nobody looked, or nobody knows."""
    started: bool = False
    running: bool = False
    cancelled: str = ""
    """Why the watch wants it to stop."""
    compatible: bool | None = None
    corrupt: bool = False
    counts: dict[str, int] = {}
    last_keys: dict[str, int] = {}
    sketches: dict[str, Sketch] = {}


class DeploymentState(Frozen):
    """What the current deployment knows; lies in the cluster beside the lock, so rollback needs no other source.

    Times are seconds since the epoch.
    """

    deployment: str
    generation: int
    status: Status
    version: str
    image: str
    previous_version: str
    previous_image: str
    stable: str = Field(validation_alias=AliasChoices("stable", "old_colour"))
    preview: str = Field(validation_alias=AliasChoices("preview", "new_colour"))
    """The second names are those of before the package had its name; they may stand in a cluster still."""
    reason: str
    started_at: float
    phase: Phase = Phase.CUTOVER
    """Of the watch, from before the first patch on."""
    switched_at: float | None = None
    """When clients first met the new version, as the route had it; None while that is not known to have happened."""
    back_at: float | None = None
    """Since when the stable colour serves alone again; None while that is not known."""
    finished_at: float | None = None
    announced: bool = False
    """Whether the status page was told that it is under way."""
    banner: bool = False
    backup: BackupRecord | None = None
    restore_point: BackupRecord | None = None
    migration: MigrationRecord = MigrationRecord()
    baseline: dict[str, float] = {}
    """What the old version measured before the deployment, by measurement name (`handover.models.names`)."""
    rollback_reason: str = ""
    rollback_run: str = ""
    """The run of the rollback DAG that took the lock from the deployment."""
    watch_until: float | None = None
    """When the monitoring of 5.1 ends; known once it has begun."""
    incidents: tuple[Incident, ...] = ()
    warned: tuple[str, ...] = ()
    """What the watchdog has told people of already."""
    readiness: str = ""
    """What the gate found: the readiness that it rests on, or why there is none and the reason of the override."""
    opened_in: str = ""
    """The seal of the Airflow that opened it (`handover.workflows.rollback.start.opened_here`)."""

    @property
    def over(self) -> bool:
        """Whether nothing is left to do; the lock is free then, and only then."""
        return self.status in (Status.SUCCEEDED, Status.ROLLED_BACK, Status.GIVEN_UP)

    @property
    def met(self) -> bool:
        """Whether clients ever met the new version."""
        return self.switched_at is not None

    @property
    def moved(self) -> bool:
        """Whether anything that clients depend on has changed: who serves them, or the database. If not, to take the
        deployment back is no more than to stop it.
        """
        return self.met or self.migration.started

    @property
    def whereabouts(self) -> str:
        """What has become of traffic, once it is taken back."""
        if not self.met:
            what = "traffic did not move, but the database did" if self.moved else "nothing moved"
            return f"{what}: {self.previous_version} served on {self.stable} all the time"
        since = f" since {clock.told(self.back_at)}" if self.back_at else ""
        return f"traffic is back on {self.stable} ({self.previous_version}){since}"

    def entering(self, phase: Phase) -> DeploymentState:
        """The same, in a phase that has begun; a step of an earlier one that runs late changes nothing."""
        order = list(Phase)
        return self if order.index(phase) <= order.index(self.phase) else self.model_copy(update={"phase": phase})

    @property
    def token(self) -> FencingToken:
        """Of whoever holds the lock for this deployment by now."""
        return FencingToken(
            deployment=self.deployment, generation=self.generation, stable=self.stable, preview=self.preview
        )
