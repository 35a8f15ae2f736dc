"""What the page is told: the answers of `routes.py`, as JSON. No I/O here.

Times are seconds since the epoch (UTC), durations seconds, shares between 0 and 1. Every text is text, never markup.
What does not answer is no zero and no empty list: its `Heard` says so, and what was known last keeps the time of that.
"""

from __future__ import annotations

from typing import Literal

from handover.models.deployment import Status
from handover.models.evidence import Frozen, Measurement, Verdict
from handover.models.incident import Incident
from handover.models.measures import Phase
from handover.models.readiness import Readiness
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
