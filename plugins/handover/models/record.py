"""What the record of a deployment consists of: entries that are written once and never changed. No I/O here.

Steps leave them as XComs without knowing the ledger; `Entry.of` says later whose they are. Times are seconds since
the epoch.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import AliasChoices, Field

from handover.models.deployment import MigrationMethod, Status
from handover.models.evidence import Frozen, Measurement, Verdict
from handover.models.incident import Severity

DEPLOYMENT_KEY = "deployment"
DECISION_KEY = "decision"
MESSAGES_KEY = "messages"
OUTCOME_KEY = "outcome"
SAMPLES_KEY = "samples"
INCIDENTS_KEY = "incidents"
"""XCom keys under which a step leaves what it did, beside its evidence."""
ANSWERS_KEY = "answers"
"""XCom key of what a role said of the checklist: line id to evidence."""
SYSTEM = "system"
"""Who decided, when it was no person."""


class RecordEntry(Frozen):
    """One line of the record: which deployment, which run of which DAG (``<run id>``), which task."""

    deployment: str = ""
    run: str = ""
    step: str = ""

    def of(self, deployment: str, run: str, step: str) -> Self:
        """The same, with its place filled in."""
        return self.model_copy(update={"deployment": deployment, "run": run, "step": step})


class Deployment(RecordEntry):
    """That a deployment was opened: what, by whom and why."""

    plan: str
    version: str
    image: str
    previous_version: str
    previous_image: str
    method: MigrationMethod
    requested_by: str
    reason: str
    window_override_reason: str = Field("", validation_alias=AliasChoices("window_override_reason", "override_reason"))
    """Why the deployment window did not count; empty when it did. The other name is that of older entries."""
    readiness_override_reason: str = ""
    """Why it went out without readiness; empty when it was ready."""
    readiness: str = ""
    """The run of the readiness DAG that it rests on; empty when it was overridden."""
    started_at: float


class Outcome(RecordEntry):
    """How a run ended. A deployment that succeeded and was rolled back by hand later has two."""

    status: Status
    at: float
    switched_at: float | None = None
    """When clients first met the new version; None: they never did."""
    backup_uri: str = ""

    @property
    def stopped(self) -> bool:
        """Whether it was taken back before any client met it: nothing moved."""
        return self.status is Status.ROLLED_BACK and self.switched_at is None

    def __str__(self) -> str:
        return "stopped before the switch" if self.stopped else str(self.status)


class Check(RecordEntry):
    """One try of one step with its evidence; UNKNOWN when it ended without any."""

    try_number: int
    check_name: str
    verdict: Verdict
    reason: str
    measurements: tuple[Measurement, ...] = ()
    started_at: float
    at: float

    @property
    def phase(self) -> str:
        """The outermost task group, "" for steps of none."""
        return self.step.partition(".")[0] if "." in self.step else ""

    @property
    def name(self) -> str:
        return self.step.rpartition(".")[2]


class Decision(RecordEntry):
    """Who chose what, and why."""

    at: float
    question: str
    choice: str
    who: str
    why: str = ""


class SentMessage(RecordEntry):
    """What people were told, or would have been: ``problem`` says why it was not delivered."""

    at: float
    channel: str
    text: str
    problem: str = ""

    @property
    def delivered(self) -> bool:
        return not self.problem


class IncidentKind(StrEnum):
    OPENED = "opened"
    NOTED = "noted"
    RESOLVED = "resolved"


class IncidentEntry(RecordEntry):
    """One line of an incident's timeline. ``incident``: its id, the rollback's run id where there is one."""

    incident: str
    kind: IncidentKind
    at: float
    severity: Severity
    text: str
    who: str = SYSTEM


class Sample(RecordEntry):
    """One point of a measure over time."""

    what: str
    source: str
    at: float
    value: float
    unit: str = ""


class Change(RecordEntry):
    """A commit that the deployment brought to production, for DORA's lead time."""

    revision: str
    committed_at: float
