"""What the page is told: the answers of `routes.py`, as JSON. No I/O here.

Times are seconds since the epoch (UTC), durations seconds, shares between 0 and 1. Every text is text, never markup.
What does not answer is no zero and no empty list: its `Heard` says so, and what was known last keeps the time of that.
"""

from __future__ import annotations

from typing import Literal

from handover.models.deployment import Status
from handover.models.evidence import Frozen, Measurement, Verdict
from handover.models.incident import Incident, Severity
from handover.models.measures import Phase, Silence
from handover.models.readiness import Readiness
from handover.models.record import Change, IncidentKind
from handover.ports.router import Stage


class Heard(Frozen):
    """Whether one part answers. ``at``: when it last did, None for never since this server began; ``reason``: why it
    does not, "" when it does. What is shown of a part that does not answer is as old as ``at``.
    """

    answers: bool
    at: float | None
    reason: str = ""


class Parts(Frozen):
    """All that the page rests on. ``watch``: answers when somebody watches, or when there is nothing to watch;
    ``ledger``: None where the plan records nothing.
    """

    cluster: Heard
    watch: Heard
    airflow: Heard
    ledger: Heard | None


class Dags(Frozen):
    """Ids of the plan's DAGs. Questions are asked by ``deployment``, ``rollback``, ``readiness``, ``announcements``,
    ``followups`` and ``data_migration``.
    """

    deployment: str
    rollback: str
    readiness: str
    announcements: str
    followups: str
    data_migration: str


class ColourNow(Frozen):
    """One colour. ``weight``: percent of new connections; ``ready`` of ``wanted`` pods; ``version`` as it was deployed
    there, "" for nothing known; ``role`` in the last deployment, "" before the first.
    """

    colour: str
    role: Literal["stable", "preview", ""]
    weight: int
    ready: int
    wanted: int
    version: str
    workload: str


class TrafficNow(Frozen):
    """Where new connections go. ``said``: the same in words; ``unfit``: why this router cannot move traffic, "" when it
    can; ``moved_at``: since when it is so, None when nobody knows.
    """

    said: str
    colours: tuple[ColourNow, ...]
    stage: Stage | None
    generation: int
    deployment: str
    reason: str
    moved_at: float | None
    sticky: bool
    unfit: str


class LockNow(Frozen):
    """Who may change production now. ``holder`` "": nobody holds it, and the rest is of whoever held it last;
    ``since`` None: nobody knows.
    """

    holder: str
    since: float | None
    reason: str
    generation: int


class Watching(Frozen):
    """The last sign of life of one watch. ``silent``: it is older than the plan lets a source be; ``clean_since``:
    since when the version that clients meet was seen without a breach, None while it is not.
    """

    watcher: str
    at: float
    silent: bool
    armed: bool
    clean_since: float | None
    verdict: Verdict
    reason: str
    measurements: tuple[Measurement, ...]


class StepNow(Frozen):
    """A task that is under way. ``state`` as Airflow has it (running, deferred, awaiting_input, up_for_retry, ...)."""

    dag: str
    run: str
    step: str
    phase: str
    name: str
    state: str
    since: float | None
    try_number: int


class LastStep(Frozen):
    """The step that ended last, as the ledger has it."""

    step: str
    phase: str
    name: str
    verdict: Verdict
    reason: str
    at: float


class DeploymentNow(Frozen):
    """The current deployment, or the last one (``over``).

    ``watch_phase``: of the watch, from before the first patch on. ``switched_at``: the cutover, None while clients have
    not met the new version; ``back_at``: since when the stable colour serves alone again; ``decision_at``: until then a
    critical breach is rolled back by itself, and asked about after it, at the earliest; ``watch_until``: the end of the
    monitoring; None while nobody knows. ``stopped``: taken back before any client met it, so nothing moved.
    ``whereabouts``: where traffic is once it was taken back, "" before. ``rollback_run`` "": none has taken over.
    ``steps``: what is under way now; ``last_step`` None where nothing is recorded yet.
    """

    run: str
    rollback_run: str
    status: Status
    over: bool
    stopped: bool
    version: str
    previous_version: str
    image: str
    digest: str
    previous_image: str
    stable: str
    preview: str
    reason: str
    readiness: str
    watch_phase: Phase
    started_at: float
    switched_at: float | None
    back_at: float | None
    decision_at: float | None
    watch_until: float | None
    finished_at: float | None
    rollback_reason: str
    whereabouts: str
    migration: tuple[str, ...]
    incidents: tuple[Incident, ...]
    steps: tuple[StepNow, ...]
    last_step: LastStep | None


class RollbackOffer(Frozen):
    """Whether "roll back now" would do anything, and whether this person may. ``why``: why not, "" when it would;
    ``effect``: what it would do, in words; ``min_reason``: characters that the reason has at least.
    """

    possible: bool
    allowed: bool
    why: str
    effect: str
    min_reason: int


class Now(Frozen):
    """``GET /plans/{plan}/now``. ``at``: when it was read. What is None is not known: see ``parts``, or was never there
    (``deployment``, ``lock``).
    """

    plan: str
    title: str
    at: float
    dags: Dags
    parts: Parts
    traffic: TrafficNow | None
    deployment: DeploymentNow | None
    lock: LockNow | None
    watches: tuple[Watching, ...]
    rollback: RollbackOffer


class ReleaseDue(Frozen):
    """What is deployed when the next window opens. ``problem``: why it cannot be told; version "" and no problem:
    nothing is due.
    """

    version: str = ""
    image: str = ""
    problem: str = ""


class WindowView(Frozen):
    """One deployment window. ``frozen``: why nothing goes out then, "" when something may; ``prepares_at``: Phase 1."""

    opens: float
    closes: float
    prepares_at: float
    open: bool
    frozen: str


class ReadinessNow(Frozen):
    """The last verdict. ``known`` None: there never was one, or it cannot be read (``problem``). ``counts``: whether it
    would let the release that is due out now; ``problem``: why not.
    """

    known: Readiness | None
    counts: bool
    problem: str


class PlanCard(Frozen):
    """One service of ``GET /plans``; each part as in `Now`, with what comes next."""

    name: str
    title: str
    now: Now
    release_due: ReleaseDue
    window: WindowView
    readiness: ReadinessNow


class Plans(Frozen):
    """``GET /plans``. Plans that this person may not read are left out; ``broken``: how many plan files cannot be
    read (Airflow shows why among the DAGs' import errors).
    """

    at: float
    plans: tuple[PlanCard, ...]
    broken: int


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


class DoraView(Frozen):
    """DORA's four since ``since``; None where nothing is known. See docs/record.md."""

    since: float
    until: float
    deployments: int
    stopped: int
    per_week: float | None
    lead_time_seconds: float | None
    changes: int
    failed: int
    failure_rate: float | None
    restore_seconds: float | None
    incidents: int
    open_incidents: int


class FreezeView(Frozen):
    """Nothing is deployed from ``starts`` until ``ends``."""

    starts: float
    ends: float
    why: str


class Numbers(Frozen):
    """``GET /plans/{plan}/numbers?days=90``. ``dora`` None: see ``ledger``, which is None where nothing is recorded.
    ``windows`` and ``freezes``: of the next 30 days; ``calendar_problem``: why the freezes cannot be told, "" when they
    can.
    """

    dora: DoraView | None
    ledger: Heard | None
    timezone: str
    windows: tuple[WindowView, ...]
    freezes: tuple[FreezeView, ...]
    calendar_problem: str


class Changed(Frozen):
    """Data of the event ``changed`` of ``GET /plans/{plan}/events``: what to ask for again. ``run``: the deployment
    that the last two are of, "" before the first.
    """

    what: tuple[Literal["now", "deployment", "measurements"], ...]
    run: str


class Away(Frozen):
    """The body of every 404 and 503 of what only one part knows: which part, why, and when it answered last."""

    detail: str
    part: Literal["cluster", "ledger", ""] = ""
    last: float | None = None
