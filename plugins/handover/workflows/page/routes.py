"""What the page asks: `views.py` says what each answer means. All of it only reads."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Annotated, TypeVar
from urllib.parse import quote

import psycopg
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse

from handover import clock
from handover.models.record import Change, IncidentEntry, Outcome, Sample
from handover.plan.load import load_plans
from handover.plan.parts import LeftOut
from handover.record import dora
from handover.record.browse import Browser
from handover.record.ledger import TABLES, NotRecorded
from handover.workflows.page import history, schedule
from handover.workflows.page.access import RunId, may_read, may_roll_back, reads, rolls_back
from handover.workflows.page.past_views import Deployments, DeploymentView, Measurements, Numbers
from handover.workflows.page.reader import Reader, plain
from handover.workflows.page.streams import EventStream
from handover.workflows.page.views import Away, Heard, Now, PlanCard, Plans
from handover.workflows.rollback.routes import Name, User, plan_named
from handover.workflows.rollback.start import rollback_run_id

T = TypeVar("T")
router = APIRouter()
DAY = 86400.0
PLANS_SECONDS = 60.0
MOST_ROWS, MOST_OFFSET = 200, 1_000_000
FOR_DORA = (Outcome, IncidentEntry, Change)
NOT_OURS = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<title>Deployment</title></head>
<body><main><h1>No deployment</h1><p>This run belongs to no service that is deployed from here.</p>
<p><a href="../../">All services</a></p></main></body></html>
"""
BUT_SAMPLES = tuple(kind for kind in TABLES if kind is not Sample)


class PartAway(Exception):
    """Only one part knows the answer, and it does not say it."""

    def __init__(self, status: int, body: Away) -> None:
        super().__init__(body.detail)
        self.status, self.body = status, body


def reader_of(plan: Name, request: Request) -> Reader:
    """Kept for as long as this server runs: a new plan needs a restart, as it does for its DAGs' plugins."""
    kept: dict[str, Reader] = request.app.state.readers
    if plan not in kept:
        kept.setdefault(plan, Reader(plan_named(plan)))
    return kept[plan]


def _fresh(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"


Plan = Annotated[Reader, Depends(reader_of)]
READ = [Depends(may_read), Depends(_fresh)]


@router.get("/plans", dependencies=[Depends(_fresh)])
async def plans(request: Request, user: User) -> Plans:
    names, broken = await run_in_threadpool(_known, request)
    mine = await run_in_threadpool(lambda: [one for one in names if reads(one, request, user)])
    readers = [await run_in_threadpool(reader_of, one, request) for one in mine]
    allowed = await run_in_threadpool(lambda: [rolls_back(one, request, user) for one in mine])
    cards = await asyncio.gather(*(_card(*one) for one in zip(readers, allowed, strict=True)))
    return Plans(at=clock.epoch(), plans=tuple(cards), broken=broken)


def _known(request: Request) -> tuple[list[str], int]:
    """Names of the plans, and how many are broken; read again after a while, not for everybody who asks."""
    kept: dict[str, tuple[float, list[str], int]] = request.app.state.known
    at, names, broken = kept.get("plans", (-math.inf, [], 0))
    if clock.monotonic() - at > PLANS_SECONDS:
        found = list(load_plans())
        names = [one.name for one in found if not isinstance(one, ValueError)]
        broken = len(found) - len(names)
        kept["plans"] = clock.monotonic(), names, broken
    return names, broken


async def _card(plan: Reader, allowed: bool) -> PlanCard:
    now, at = await plan.now(), clock.utc()
    await plan.due.fresh()
    frozen, unknown = await asyncio.to_thread(schedule.freezes, plan.plan, at)
    seen = plan.cluster.value
    due = schedule.due_of(plan.plan, plan.due.value, seen.state if seen else None)
    if not plan.due.heard.answers:
        due = due.model_copy(update={"problem": plan.due.heard.reason})
    ready, problem = (seen.readiness, seen.readiness_problem) if seen else (None, plan.cluster.heard.reason)
    return PlanCard(
        name=plan.plan.name, title=plan.plan.title, now=_with(now, allowed), release_due=due,
        window=schedule.next_window(plan.plan, at, frozen, unknown),
        readiness=schedule.readiness_of(ready, problem, due, at.timestamp()),
    )  # fmt: skip


@router.get("/runs/{dag}/{run}", dependencies=[Depends(_fresh)])
async def of_run(request: Request, dag: RunId, run: RunId, _: User) -> Response:
    """From a run of Airflow to its place on the page: what the tab of a run leads to."""
    names, _broken = await run_in_threadpool(_known, request)
    plan = max((one for one in names if dag.startswith(f"{one}_")), key=len, default="")
    if not plan:
        return HTMLResponse(NOT_OURS)
    deployment = run.removeprefix(rollback_run_id("")) if dag == f"{plan}_rollback" else run
    ours = dag in (f"{plan}_deployment", f"{plan}_rollback")
    place = f"{plan}/deployments/{quote(deployment, safe='')}" if ours else plan
    return RedirectResponse(f"../../#/plans/{place}", 303)


@router.get("/plans/{plan}/now", dependencies=READ)
async def now(plan: Plan, allowed: Annotated[bool, Depends(may_roll_back)]) -> Now:
    return _with(await plan.now(), allowed)


def _with(now: Now, allowed: bool) -> Now:
    return now.model_copy(update={"rollback": now.rollback.model_copy(update={"allowed": allowed})})


@router.get("/plans/{plan}/deployments", dependencies=READ)
async def deployments(
    plan: Plan,
    limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 50,
    offset: Annotated[int, Query(ge=0, le=MOST_OFFSET)] = 0,
) -> Deployments:
    asked = "deployments", limit, offset
    total, rows = await _read(plan, asked, lambda ledger: ledger.page(plan.plan.name, limit, offset))
    found = tuple(history.row_of(plan.plan, row) for row in rows)
    return Deployments(total=total, limit=limit, offset=offset, rows=found)


@router.get("/plans/{plan}/deployments/{run}", dependencies=READ)
async def deployment(plan: Plan, run: RunId) -> DeploymentView:
    def read(ledger: Browser) -> DeploymentView:
        (record,) = ledger.read_all([run], only=BUT_SAMPLES)
        if record.deployment.plan != plan.plan.name:
            raise NotRecorded(f"the ledger knows no deployment {run} of {plan.plan.name}")
        return history.deployment_of(plan.plan, record)

    return await _read(plan, ("deployment", run), read)


@router.get("/plans/{plan}/deployments/{run}/measurements", dependencies=READ)
async def measurements(
    plan: Plan, run: RunId, since: Annotated[float, Query(ge=0, le=1e11, allow_inf_nan=False)] = 0.0
) -> Measurements:
    def read(ledger: Browser) -> Measurements:
        return history.measurements_of(plan.plan, ledger.thinned(plan.plan.name, run, since))

    return await _read(plan, ("measurements", run, since), read)


@router.get("/plans/{plan}/numbers", dependencies=READ)
async def numbers(plan: Plan, days: Annotated[int, Query(ge=1, le=366)] = 90) -> Numbers:
    def read(ledger: Browser) -> dora.Dora:
        return _dora(ledger, plan.plan.name, at.timestamp(), days * DAY)

    at = clock.utc()
    frozen, unknown = await asyncio.to_thread(schedule.freezes, plan.plan, at)
    heard: Heard | None = None
    measured: dora.Dora | None = None
    if plan.plan.record:
        try:
            measured = await _read(plan, ("numbers", days), read)
            heard = Heard(answers=True, at=at.timestamp())
        except PartAway as away:
            heard = Heard(answers=False, at=away.body.last, reason=away.body.detail)
    return Numbers(
        dora=measured, ledger=heard, timezone=plan.plan.window.timezone,
        windows=tuple(schedule.windows(plan.plan, at, frozen, unknown)), freezes=schedule.shown(frozen),
        calendar_problem=unknown,
    )  # fmt: skip


def _dora(ledger: Browser, plan: str, until: float, seconds: float) -> dora.Dora:
    since = until - seconds
    records = ledger.read_all(ledger.deployments(since, plan), only=FOR_DORA)
    return dora.measure(records, since, until)


@router.get("/plans/{plan}/events", dependencies=READ)
async def events(
    plan: Plan, request: Request, known: Annotated[str, Header(alias="Last-Event-ID", max_length=64)] = ""
) -> Response:
    return EventStream(request.app.state.streams, plan, known)


async def _read(plan: Reader, asked: tuple[object, ...], work: Callable[[Browser], T]) -> T:
    """What only the ledger knows, without holding anybody else up. Raises `PartAway`.

    :param asked: who asks the same at the same time shares the answer
    """

    async def read() -> T:
        return await asyncio.to_thread(work, await plan.browse())

    try:
        return await plan.shared.once(asked, read)
    except LeftOut as error:
        raise PartAway(404, Away(detail=str(error))) from None
    except NotRecorded as error:
        raise PartAway(404, Away(detail=str(error), part="ledger")) from None
    except psycopg.Error as error:
        said = f"the ledger did not answer: {plain(error)}"
        raise PartAway(503, Away(detail=said, part="ledger", last=plan.ledger.at)) from None
