"""What is said to whom, and what becomes of it: to Slack, the status page and by e-mail.

Notify open: a channel that is down is logged and never fails or holds up a deployment. The task that writes a letter
tries it once; what was not delivered is the redelivery's (`handover.workflows.redelivery`), and nobody else tries it
again. Sent once: every letter has a key, and what became of it is remembered where a later try of the task finds it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from handover import clock
from handover.evidence_seal import leave
from handover.models.message import UNDELIVERED_KEY, Letter, PageUpdate
from handover.models.record import MESSAGES_KEY, SentMessage
from handover.models.redaction import redacted
from handover.outside import outside
from handover.people.blocks import blocks, late
from handover.people.calendar import invitation
from handover.people.sealing import sealed
from handover.plan.parts import LeftOut
from handover.ports.channel import ServiceRefused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from handover.people.calendar import Meeting
    from handover.people.messages import Message
    from handover.plan.model import Plan

log = logging.getLogger(__name__)


def tell(context: Any, plan: Plan, message: Message) -> list[str]:
    """Sends to every channel of the message, once however often the task is tried; gives the channels that failed, each
    with its reason. Leaves for the record what was sent, and what was not for the redelivery.
    """
    seen_at = _links(plan, getattr(context["ti"], "dag_id", ""), context["run_id"])
    return _deliver(context, plan, letters(plan, message, _origin(context), seen_at))


def invite(context: Any, plan: Plan, meeting: Meeting) -> list[str]:
    """The same for an invitation, by e-mail to everybody who is to come."""
    if (sender := plan.messages.email_from) is None:
        return []
    now = clock.epoch()
    letter = Letter(
        key=f"{plan.name}/{_origin(context)}/{meeting.uid}", kind="e-mail", to=meeting.to, subject=meeting.title,
        text=meeting.text, invite=invitation(meeting, sender, now), at=now,
    )  # fmt: skip
    return _deliver(context, plan, [letter])


def leave_untold(context: Any, plan: Plan, message: Message, why: str) -> None:
    """For the record: what would have been told, and why it was not. Nobody tries it again."""
    written = letters(plan, message, context["run_id"])
    _leave(context["ti"], MESSAGES_KEY, [_entry(letter, f"skipped: {why}") for letter in written])


def send(plan: Plan, message: Message, origin: str) -> list[Letter]:
    """The same for a trigger, which has no XComs; gives the letters that were not delivered."""
    written = letters(plan, message, origin, _links(plan, plan.deployment_dag_id, message.deployment))
    missing = [letter for letter in written if not deliver(plan, letter, look=False).delivered]
    return sealed(plan, missing) if missing else []


def letters(plan: Plan, message: Message, origin: str, more: Mapping[str, str] | None = None) -> list[Letter]:
    """One letter for each channel of the message. ``origin``: what sends it, a part of every key; ``more``: where there
    is more to see, by name.
    """
    m, now, found, message = plan.messages, clock.epoch(), [], _tellable(message)
    key = f"{plan.name}/{origin}/{message.event}"
    channel = m.incidents_channel if message.incident_channel else m.deployments_channel
    if message.slack and channel:
        seen_at = {**(more or {}), "Status page": m.status_page_url or ""}
        shown = blocks(message.title, message.slack, dict(message.fields), seen_at)
        found.append(
            Letter(key=f"{key}/{channel}", kind="slack", to=(channel,), text=message.slack, blocks=shown, at=now)
        )
    text = message.text or message.slack
    if message.status_page and m.status_page_connection:
        page = PageUpdate(
            status=message.status_page, version=message.version, deployment=message.deployment, opens=message.opens,
            closes=message.closes,
        )  # fmt: skip
        found.append(
            Letter(key=f"{key}/status page", kind="status page", text=message.public or text, page=page, at=now)
        )
    to = (*(m.stakeholders if message.to_stakeholders else ()), *(m.users if message.to_users else ()))
    if to:
        found.append(
            Letter(key=f"{key}/e-mail", kind="e-mail", to=to, text=text, subject=message.subject, at=now)
        )  # fmt: skip
    return found


def _tellable(message: Message) -> Message:
    """Without what looks like a secret: a message may have anybody's words in it, a pod's last ones say."""
    return replace(
        message, slack=redacted(message.slack), title=redacted(message.title), public=redacted(message.public),
        text=redacted(message.text), subject=redacted(message.subject),
        fields=tuple((name, redacted(value)) for name, value in message.fields),
    )  # fmt: skip


def deliver(plan: Plan, letter: Letter, *, look: bool, again: bool = False) -> SentMessage:
    """One try to deliver one letter. ``look``: ask the channel first whether an earlier try got through; ``again``:
    this is the redelivery. Never raises: what went wrong is the entry's ``problem``.
    """
    said, problem = letter, ""
    if again and letter.blocks:
        said = letter.model_copy(update={"blocks": (*letter.blocks, late(letter.at))})
    try:
        outside().channels[letter.kind](plan).deliver(said, look=look)
    except Exception as error:
        log.warning("not delivered (%s): %s", letter.channel, error)
        problem = why(error)
    return _entry(letter, problem)


def why(error: Exception) -> str:
    """As it may be told: only of a refusal is it known that its text holds no secret."""
    return str(error) if isinstance(error, (LeftOut, ServiceRefused)) else type(error).__name__


def _links(plan: Plan, dag_id: str, run_id: str) -> dict[str, str]:
    """Where a run is seen, by name; nothing when nobody knows this Airflow's address."""
    from urllib.parse import quote

    from airflow.sdk.configuration import conf

    base = (conf.get("api", "base_url", fallback="") or "").rstrip("/")
    if not (base and dag_id and run_id):
        return {}
    dag, run = quote(dag_id, safe=""), quote(run_id, safe="")
    page = {"What goes on": f"{base}/handover/runs/{dag}/{run}"}
    ours = dag_id in (plan.deployment_dag_id, plan.rollback_dag_id)
    return {**(page if ours else {}), "Run in Airflow": f"{base}/dags/{dag}/runs/{run}"}


def _origin(context: Any) -> str:
    ti = context["ti"]
    tries = _tries_before(ti)
    return f"{context['run_id']}/{getattr(ti, 'task_id', '')}" + (f"/{tries}" if tries else "")


def _tries_before(ti: Any) -> int:
    """Tries before somebody cleared the task: that person wants it done anew, and so told anew (a question, say)."""
    retries = getattr(getattr(ti, "task", None), "retries", None) or 0
    return max(0, (getattr(ti, "max_tries", None) or 0) - retries)


def _deliver(context: Any, plan: Plan, written: Sequence[Letter]) -> list[str]:
    ti, store = context["ti"], context.get("task_state_store")
    look = getattr(ti, "try_number", 1) > _tries_before(ti) + 1
    sent = [(letter, _once(plan, letter, store, look=look)) for letter in written]
    _leave(ti, MESSAGES_KEY, [one for _, one in sent])
    if missing := [letter for letter, one in sent if not one.delivered]:
        _leave(ti, UNDELIVERED_KEY, sealed(plan, missing))
    return [f"{one.channel}: {one.problem}" for _, one in sent if not one.delivered]


def _once(plan: Plan, letter: Letter, store: Any, *, look: bool) -> SentMessage:
    """What an earlier try of this task has sent, delivered or not, is not sent again."""
    mark = f"told_{hashlib.sha256(letter.key.encode()).hexdigest()[:32]}"
    with contextlib.suppress(Exception):  # without the store it is as on a first try
        if store is not None and (known := store.get(mark)):
            return SentMessage.model_validate(known)
    sent = deliver(plan, letter, look=look)
    try:
        if store is not None:
            store.set(mark, sent.model_dump(mode="json"))
    except Exception as error:
        log.warning("a later try will not know of %s: %s", letter.key, error)
    return sent


def _entry(letter: Letter, problem: str) -> SentMessage:
    return SentMessage(at=letter.at, channel=letter.channel, text=letter.said, problem=problem)


def _leave(ti: Any, key: str, more: list[Any]) -> None:
    """Adds to what this task has left before it waited for an answer."""
    before = ti.xcom_pull(task_ids=getattr(ti, "task_id", ""), key=key) or []
    leave(ti, key, [*before, *(one.model_dump(mode="json") for one in more)])
