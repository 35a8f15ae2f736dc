"""A letter that could not be delivered gets a run of its own: nobody waits for it, and it is tried for a day.

The run id comes from the letter's key, so that handing it over twice is once, and from a seal, so that nobody else can
take it. Only what this system has left undelivered is sent: `handover.people.sealing` seals letter and deployment.
"""

from __future__ import annotations

import datetime
import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier, BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from pydantic import ValidationError

from handover import clock
from handover.evidence_seal import leave
from handover.models.followup import ENDED_KEY, ENDED_TASK, Ended
from handover.models.message import ORIGIN_KEY, UNDELIVERED_KEY, Letter
from handover.models.record import MESSAGES_KEY, SentMessage
from handover.outside import outside
from handover.people.sealing import is_sealed, seal_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from handover.plan.model import Plan
    from handover.ports.airflow import AirflowApi

log = logging.getLogger(__name__)
MAX_DELAY_SECONDS = 1800.0
AT_A_TIME = 2
"""Of all letters together: an outage of every channel must not take the workers that a deployment needs."""


class NotDelivered(AirflowException):
    """Once more, later."""


class BadLetter(ValueError):
    """This is no letter that the plan would send."""


def run_id_of(airflow: AirflowApi, key: str) -> str:
    return f"redelivery__{airflow.seal(f'run {key}')[:32]}"


def hand_over(plan: Plan, missing: Sequence[Letter], deployment: str) -> None:
    """Starts a run for each letter, unless there is one; a letter that nobody here has sealed is not tried. Logs
    instead of raising: these are only messages.

    :param deployment: under whose name it is recorded, what became of them
    """
    if not missing or plan.announcements is None:
        return
    try:
        airflow = outside().airflow(plan.rollback.airflow_connection)
        for letter in missing:
            if not is_sealed(airflow, letter, letter.seal):
                log.warning("%r was not left here by this system, and is not handed over", letter.key)
                continue
            seal = seal_of(airflow, letter, deployment)
            conf = {"letter": letter.model_dump(mode="json"), "deployment": deployment, "seal": seal}
            airflow.start(plan.redelivery_dag_id, run_id_of(airflow, letter.key), conf)
    except Exception as error:
        log.warning("%d messages were not handed over: %s: %s", len(missing), type(error).__name__, error)


def hand_over_left(ti: Any, plan: Plan, deployment: str) -> None:
    """The same for what a task has left undelivered."""
    left = ti.xcom_pull(task_ids=ti.task_id, key=UNDELIVERED_KEY) or ()
    hand_over(plan, [Letter.model_validate(one) for one in left], deployment)


class HandOver(BaseNotifier):
    """For questions, which wait before they end: what they could not tell must not wait with them."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    def notify(self, context: Context) -> None:
        try:
            hand_over_left(context["ti"], self.plan, self._deployment(context))
        except Exception as error:
            log.warning("handed over when the question has been answered: %s", error)

    def _deployment(self, context: Context) -> str:
        """A run of the follow-ups asks about a deployment that has ended; others are recorded under their own name."""
        if context["ti"].dag_id != self.plan.followups_dag_id:
            return str(context["run_id"])
        return Ended.model_validate(context["ti"].xcom_pull(task_ids=ENDED_TASK, key=ENDED_KEY)).deployment


class Redeliver(BaseOperator):
    """Delivers one letter, tried again with growing pauses until its time is over; then gives it up, on record."""

    def __init__(self, *, plan: Plan, opened_by: str = "", **kwargs: Any) -> None:
        assert plan.announcements is not None  # else there is no such DAG
        rules = plan.announcements
        super().__init__(
            # more than there is time for, as no pause is shorter than the first: the time alone gives a letter up
            retries=math.ceil(rules.retry_for_seconds / rules.retry_delay_seconds),
            retry_delay=datetime.timedelta(seconds=rules.retry_delay_seconds),
            retry_exponential_backoff=2,
            max_active_tis_per_dag=AT_A_TIME,
            max_retry_delay=datetime.timedelta(seconds=max(rules.retry_delay_seconds, MAX_DELAY_SECONDS)),
            **kwargs,
        )
        self.plan, self.opened_by, self.seconds = plan, opened_by, rules.retry_for_seconds

    def execute(self, context: Context) -> Any:
        from handover.people.channels import deliver

        try:
            letter = letter_of(self.plan, context["params"])
        except BadLetter as error:
            raise AirflowFailException(f"nothing was sent: {error}") from None
        sent = deliver(self.plan, letter, look=True, again=True)
        if sent.delivered:
            self._record(context, letter, "")
            return f"delivered to {letter.channel}"
        if clock.epoch() >= letter.at + self.seconds:
            self._record(context, letter, f"given up: {sent.problem}")
            raise AirflowFailException(f"given up after {clock.epoch() - letter.at:.0f} s: {sent.problem}")
        raise NotDelivered(f"{letter.channel}: {sent.problem}")

    def _record(self, context: Context, letter: Letter, problem: str) -> None:
        entry = SentMessage(at=clock.epoch(), channel=letter.channel, text=letter.said, problem=problem)
        context["ti"].xcom_push(key=ORIGIN_KEY, value=context["params"]["deployment"])
        leave(context["ti"], MESSAGES_KEY, [entry.model_dump(mode="json")])


def letter_of(plan: Plan, given: Mapping[str, Any]) -> Letter:
    """What the run was started with. Raises `BadLetter`, also for a letter to somebody whom the plan does not name, and
    for one, or a deployment, that was not written here.
    """
    try:
        letter = Letter.model_validate(given.get("letter"))
    except ValidationError as error:
        raise BadLetter("; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())) from None
    m = plan.messages
    known: dict[str, set[str]] = {
        "slack": {channel for channel in (m.deployments_channel, m.incidents_channel) if channel},
        "e-mail": {*m.stakeholders, *m.users, *(plan.followups.meeting_emails if plan.followups else ())},
        "status page": set(),
    }  # fmt: skip
    if strangers := sorted(set(letter.to) - known[letter.kind]):
        raise BadLetter(f"to: the plan does not name {', '.join(strangers)}")
    if (not letter.to and letter.kind != "status page") or (len(letter.to) != 1 and letter.kind == "slack"):
        raise BadLetter(f"to: {letter.kind} to {len(letter.to)} places")
    if (letter.page is None) == (letter.kind == "status page"):
        raise BadLetter("page: belongs to the status page, and only there")
    if letter.invite and letter.kind != "e-mail":
        raise BadLetter("invite: goes with an e-mail, and only there")
    airflow = outside().airflow(plan.rollback.airflow_connection)
    if not is_sealed(airflow, letter, str(given.get("seal") or ""), str(given.get("deployment"))):
        raise BadLetter("seal: this system has left no such letter undelivered for this deployment")
    return letter
