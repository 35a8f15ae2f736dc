"""What the page is told of what the ledger has: deployments, one of them whole, measurements, figures. See `views`."""

from __future__ import annotations

from typing import Literal

from handover.models.deployment import Status
from handover.models.evidence import Frozen, Measurement, Verdict
from handover.models.incident import Severity
from handover.models.measures import Phase, Silence
from handover.models.record import Change, IncidentKind
from handover.record.dora import Dora
from handover.workflows.page.views import Dags, Heard, WindowView


class DeploymentRow(Frozen):
    """One deployment of the ledger. ``outcome`` in words (has not ended, succeeded, stopped before the switch, was
    rolled back, ...); ``status`` None while it has none; ``ended_at`` of the last outcome; ``report``: where it lies,
    "" where there is none (yet).
    """

    run: str
    version: str
    previous_version: str
    requested_by: str
    reason: str
    started_at: float
    switched_at: float | None
    ended_at: float | None
    status: Status | None
    outcome: str
    report: str


class Deployments(Frozen):
    """``GET /plans/{plan}/deployments?limit=50&offset=0``: newest first. ``total``: of all pages."""

    total: int
    limit: int
    offset: int
    rows: tuple[DeploymentRow, ...]


class CheckView(Frozen):
    """One try of one step with its evidence. ``run``: the deployment's, or its rollback's."""

    run: str
    step: str
    phase: str
    name: str
    try_number: int
    verdict: Verdict
    reason: str
    started_at: float
    at: float
    measurements: tuple[Measurement, ...]


class DecisionView(Frozen):
    """Who chose what and why."""

    run: str
    step: str
    at: float
    question: str
    choice: str
    who: str
    why: str


class MessageView(Frozen):
    """What people were told. ``problem``: why it was not delivered, "" when it was; ``arrived``: whether it was, then
    or at a later try.
    """

    run: str
    step: str
    at: float
    channel: str
    text: str
    problem: str
    arrived: bool


class IncidentLine(Frozen):
    at: float
    kind: IncidentKind
    text: str
    who: str


class IncidentView(Frozen):
    """The timeline of one incident. ``resolved_at`` None: it is open."""

    incident: str
    severity: Severity
    opened_at: float
    resolved_at: float | None
    lines: tuple[IncidentLine, ...]


class PhaseView(Frozen):
    """From the start of its first step to the end of its last one; ``passed`` of ``steps``, each by its last try."""

    name: str
    run: str
    started_at: float
    ended_at: float
    passed: int
    steps: int


class Moment(Frozen):
    """A mark for every plot."""

    at: float
    kind: Literal["switch", "migration", "incident", "back", "end"]
    text: str = ""


class MeasureView(Frozen):
    """A measure that the plan judges by. ``limit`` in words; ``above`` and ``below``: what a value must not be, in
    ``unit``, None where the limit is relative or there is none of that side.
    """

    name: str
    source: str
    unit: str
    limit: str
    above: float | None
    below: float | None
    severity: Severity
    phases: tuple[Phase, ...]
    silence: Silence


class DeploymentView(Frozen):
    """``GET /plans/{plan}/deployments/{run}``: all but the measurements, each list in the order of time.
    ``undelivered``: how many messages nobody got.
    """

    row: DeploymentRow
    image: str
    previous_image: str
    method: str
    window_override_reason: str
    readiness_override_reason: str
    readiness_run: str
    backup: str
    dags: Dags
    runs: tuple[str, ...]
    phases: tuple[PhaseView, ...]
    checks: tuple[CheckView, ...]
    decisions: tuple[DecisionView, ...]
    incidents: tuple[IncidentView, ...]
    messages: tuple[MessageView, ...]
    undelivered: int
    changes: tuple[Change, ...]
    moments: tuple[Moment, ...]
    measures: tuple[MeasureView, ...]


class SeriesView(Frozen):
    """One measure over time, a pair of values for each time of `Measurements.at`: the least and the greatest value of
    that stretch, None where nothing was measured. ``low`` is left empty where it is ``high`` everywhere. ``above`` and
    ``below``: its limit in this ``unit``, None where there is none that is a number.
    """

    what: str
    source: str
    unit: str
    high: tuple[float | None, ...]
    low: tuple[float | None, ...]
    above: float | None
    below: float | None


class Measurements(Frozen):
    """``GET /plans/{plan}/deployments/{run}/measurements?since=0``: at most 400 stretches of ``seconds`` each, all
    series on the same ``at`` (where a stretch begins), oldest first.

    To go on: ``since`` = the last ``at`` of before; that stretch comes again, complete by then, and takes the place of
    the old one. When ``seconds`` is another than before (the deployment has become longer), ask again without it.
    """

    seconds: float
    at: tuple[float, ...]
    series: tuple[SeriesView, ...]


class FreezeView(Frozen):
    """Nothing is deployed from ``starts`` until ``ends``."""

    starts: float
    ends: float
    why: str


class Numbers(Frozen):
    """``GET /plans/{plan}/numbers?days=90``. ``dora``: the four (docs/record.md); None: see
    ``ledger``, which is None where nothing is recorded.
    ``windows`` and ``freezes``: of the next 30 days; ``calendar_problem``: why the freezes cannot be told, "" when they
    can.
    """

    dora: Dora | None
    ledger: Heard | None
    timezone: str
    windows: tuple[WindowView, ...]
    freezes: tuple[FreezeView, ...]
    calendar_problem: str
