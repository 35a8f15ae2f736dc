"""What the page says of this moment, from what was seen of the cluster. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from handover.coordination.lock import generation_of
from handover.coordination.routing import met_at
from handover.coordination.size import declared
from handover.models.annotations import notes
from handover.models.deployment import Status
from handover.models.evidence import Frozen
from handover.models.image_reference import BadImage, ImageReference
from handover.models.redaction import cleaned, redacted
from handover.ports.router import Stage
from handover.workflows.deployment.request import MIN_REASON
from handover.workflows.page.views import (
    ColourNow,
    Dags,
    DeploymentNow,
    Heard,
    LastStep,
    LockNow,
    RollbackOffer,
    StepNow,
    TrafficNow,
    Watching,
)

if TYPE_CHECKING:
    from handover.models.deployment import DeploymentState
    from handover.plan.model import Plan
    from handover.ports.kube import Json
    from handover.ports.router import Route
    from handover.workflows.page.looking import ClusterSeen

M = TypeVar("M", bound=Frozen)
STABILIZATION = "stabilization"
"""The step that soaks up to the decision point (5.1)."""


def dags_of(plan: Plan) -> Dags:
    return Dags(
        deployment=plan.deployment_dag_id, rollback=plan.rollback_dag_id, readiness=plan.readiness_dag_id,
        announcements=plan.announcements_dag_id, followups=plan.followups_dag_id,
        data_migration=plan.data_migration_dag_id,
    )  # fmt: skip


def traffic_of(plan: Plan, seen: ClusterSeen) -> TrafficNow:
    route = seen.route
    return TrafficNow(
        said=_text(route), colours=tuple(_colour(plan, seen, colour) for colour in plan.cluster.colours),
        stage=route.stage, generation=route.generation, deployment=route.deployment, reason=_text(route.reason),
        moved_at=route.moved_at, sticky=route.sticky, unfit=route.unfit,
    )  # fmt: skip


def _colour(plan: Plan, seen: ClusterSeen, colour: str) -> ColourNow:
    workload, state = seen.workloads.get(colour), seen.state
    roles: dict[str, Literal["stable", "preview"]] = {state.stable: "stable", state.preview: "preview"} if state else {}
    return ColourNow(
        colour=colour, role=roles.get(colour, ""), weight=seen.route.weights.get(colour, 0), ready=_ready(workload),
        wanted=declared(workload), version=notes(workload).get("version", "") if workload else "",
        workload=plan.cluster.deployment_of(colour),
    )  # fmt: skip


def _ready(workload: Json | None) -> int:
    return int(((workload or {}).get("status") or {}).get("readyReplicas") or 0)


def lock_of(lease: Json | None) -> LockNow | None:
    if lease is None:
        return None
    return LockNow(
        holder=lease["spec"].get("holderIdentity") or "", since=_moment(lease["spec"].get("acquireTime")),
        reason=_text(notes(lease).get("reason", "")), generation=generation_of(lease),
    )  # fmt: skip


def _moment(text: str | None) -> float | None:
    with suppress(ValueError):
        return datetime.datetime.fromisoformat(text).timestamp() if text else None
    return None


def watches_of(plan: Plan, seen: ClusterSeen, now: float) -> tuple[Watching, ...]:
    return tuple(
        Watching(
            watcher=one.watcher, at=one.at, silent=now - one.at > plan.watch.no_data_seconds, armed=one.armed,
            clean_since=one.clean_since, verdict=one.verdict, reason=_text(one.reason),
            measurements=tuple(clean(measured) for measured in one.measurements),
        )
        for one in seen.beats
    )  # fmt: skip


def watch_heard(seen: ClusterSeen, watches: Sequence[Watching]) -> Heard:
    """Of all watches together. None is needed before clients meet the new version, and none after the end."""
    last, state = max((one.at for one in watches), default=None), seen.state
    needed = state is not None and not state.over and state.status is Status.DEPLOYING and _exposed(state, seen.route)
    if any(not one.silent for one in watches) or (not needed and (not watches or state is None or state.over)):
        return Heard(answers=True, at=last)
    if last is None:
        return Heard(answers=False, at=None, reason="nobody watches: no sign of life was ever read")
    return Heard(answers=False, at=last, reason=f"no sign of life for {seen.at - last:.0f} s")


def _exposed(state: DeploymentState, route: Route) -> bool:
    mine = route.deployment == state.deployment
    return state.met or (mine and route.stage in (Stage.OVERLAP, Stage.PROMOTED, Stage.RETIRING))


def deployment_of(
    plan: Plan, seen: ClusterSeen, steps: Sequence[StepNow], last: LastStep | None
) -> DeploymentNow | None:
    """``steps``: what is under way, as Airflow says; ``last``: what ended last, as the ledger does."""
    state = seen.state
    if state is None:
        return None
    switched = met_at(state, seen.route)
    return DeploymentNow(
        run=state.deployment, rollback_run=state.rollback_run, status=state.status, over=state.over,
        stopped=state.status is Status.ROLLED_BACK and switched is None, version=state.version,
        previous_version=state.previous_version, image=state.image, digest=_digest(state.image),
        previous_image=state.previous_image, stable=state.stable, preview=state.preview, reason=_text(state.reason),
        readiness=_text(state.readiness), watch_phase=state.phase, started_at=state.started_at, switched_at=switched,
        back_at=state.back_at, decision_at=_decision_at(plan, state, steps), watch_until=state.watch_until,
        finished_at=state.finished_at, rollback_reason=_text(state.rollback_reason),
        whereabouts=state.whereabouts if _taken_back(state) else "", migration=state.migration.applied,
        incidents=tuple(clean(one) for one in state.incidents), steps=tuple(steps), last_step=last,
    )  # fmt: skip


def _taken_back(state: DeploymentState) -> bool:
    return state.status in (Status.ROLLING_BACK, Status.ROLLED_BACK, Status.ROLLBACK_FAILED)


def _digest(image: str) -> str:
    try:
        return ImageReference.parse(image).digest
    except BadImage:
        return ""


def _decision_at(plan: Plan, state: DeploymentState, steps: Sequence[StepNow]) -> float | None:
    """Known exactly once it has passed; before that, when the step that soaks up to it began says when at the
    earliest.
    """
    if state.watch_until is not None:
        return state.watch_until - plan.asking_seconds
    began = next((one.since for one in steps if one.name == STABILIZATION and one.since is not None), None)
    return None if began is None else began + plan.rollback.window_seconds


def steps_of(dag: str, run: str, tasks: Sequence[Mapping[str, Any]]) -> list[StepNow]:
    """From Airflow's task instances; groups of no phase, such as reminders, are no steps."""
    return [
        StepNow(
            dag=dag, run=run, step=task["task_id"], phase=_phase(task["task_id"]),
            name=task["task_id"].rpartition(".")[2], state=task["state"] or "none",
            since=_moment(task.get("start_date")), try_number=task.get("try_number") or 0,
        )
        for task in tasks
    ]  # fmt: skip


def _phase(step: str) -> str:
    return step.partition(".")[0] if "." in step else ""


def offer(plan: Plan, seen: ClusterSeen | None, away: str) -> RollbackOffer:
    """What "roll back now" would do; whether this person may is filled in by whoever answers them.

    :param away: why the cluster does not answer now, "" when it does: people may try all the same
    """
    possible, why, effect = (True, away, "the cluster is asked again") if away else _would(plan, seen)
    return RollbackOffer(possible=possible, allowed=False, why=why, effect=effect, min_reason=MIN_REASON)


def _would(plan: Plan, seen: ClusterSeen | None) -> tuple[bool, str, str]:
    """Whether it would do anything, why not, and what."""
    state = seen.state if seen else None
    if seen is None or state is None:
        return False, "nothing was ever deployed", ""
    if state.status in (Status.GIVEN_UP, Status.ROLLED_BACK):
        return False, f"{state.version} was {_words(state.status)} already", ""
    back, rest = seen.route.colour == state.stable, f"{plan.rollback_dag_id} does the rest"
    old = f"{state.stable} ({state.previous_version})"
    if state.status in (Status.ROLLING_BACK, Status.ROLLBACK_FAILED) and back:
        left = "failed: clear its task" if state.status is Status.ROLLBACK_FAILED else "does the rest"
        return (
            False,
            f"traffic is on {state.stable} ({state.previous_version}) already; {state.rollback_run} {left}",
            "",
        )
    if back and not state.moved:
        return True, "", f"{state.version} is stopped: {state.previous_version} goes on serving; {rest}"
    if not _ready(seen.workloads.get(state.stable)):
        seconds = plan.rollback.old_colour_timeout_seconds
        woken = f"{old} has no ready pod and is woken first (up to {seconds:g} s)"
        return True, "", f"{woken}, then traffic goes back to it; {rest}"
    return True, "", f"traffic goes back to {old} at once; {rest}"


def _words(status: Status) -> str:
    return status.replace("_", " ")


def _text(value: object) -> str:
    """What others have written into the cluster, without what looks like a secret."""
    return redacted(str(value))


def clean(model: M) -> M:
    """The same for every text of it."""
    return model.model_validate(cleaned(model.model_dump(mode="json")))
