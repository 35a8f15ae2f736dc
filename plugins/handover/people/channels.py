"""Carries messages to Slack, the status page, e-mail and the ticket system.

Notify open: a channel that is down is logged and never fails or holds up a deployment. Sent once: every letter has a
key, and what became of it is remembered where a later try of the same task finds it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from typing import TYPE_CHECKING, Any

from handover import clock
from handover.adapters.http import call
from handover.models.message import UNDELIVERED_KEY, Letter, PageUpdate
from handover.models.record import MESSAGES_KEY, SentMessage
from handover.people import mail, slack, status_page
from handover.people.blocks import blocks

if TYPE_CHECKING:
    from handover.people.messages import Message
    from handover.plan.model import Plan

log = logging.getLogger(__name__)


def tell(context: Any, plan: Plan, message: Message) -> list[str]:
    """Sends to every channel of the message, once however often the task is tried; gives the channels that failed, each
    with its reason. Leaves for the record what was sent, and what was not for the redelivery.
    """
    ti, store = context["ti"], context.get("task_state_store")
    tries = _tries_before(ti)
    origin = f"{context['run_id']}/{getattr(ti, 'task_id', '')}" + (f"/{tries}" if tries else "")
    sent = [
        (letter, _once(plan, letter, store, look=getattr(ti, "try_number", 1) > tries + 1))
        for letter in letters(plan, message, origin, run_link(ti, context["run_id"]))
    ]
    _leave(ti, MESSAGES_KEY, [one for _, one in sent])
    if missing := [letter for letter, one in sent if not one.delivered]:
        _leave(ti, UNDELIVERED_KEY, missing)
    return [f"{one.channel}: {one.problem}" for _, one in sent if not one.delivered]


def leave_untold(context: Any, plan: Plan, message: Message, why: str) -> None:
    """For the record: what would have been told, and why it was not. Nobody tries it again."""
    written = letters(plan, message, context["run_id"])
    _leave(context["ti"], MESSAGES_KEY, [_entry(letter, f"skipped: {why}") for letter in written])


def send(plan: Plan, message: Message, origin: str) -> list[Letter]:
    """The same for a trigger, which has no XComs; gives the letters that were not delivered."""
    written = letters(plan, message, origin)
    return [letter for letter in written if not deliver(plan, letter, look=False).delivered]


def letters(plan: Plan, message: Message, origin: str, link: str = "") -> list[Letter]:
    """One letter for each channel of the message. ``origin``: what sends it, the beginning of every key."""
    m, now, found = plan.messages, clock.epoch(), []
    key = f"{origin}/{message.event}"
    if message.slack:
        channel = m.incidents_channel if message.incident_channel else m.deployments_channel
        links = {"Run in Airflow": link, "Status page": m.status_page_url}
        shown = blocks(message.title, message.slack, dict(message.fields), links)
        found.append(
            Letter(key=f"{key}/{channel}", kind="slack", to=(channel,), text=message.slack, blocks=shown, at=now)
        )
    text = message.text or message.slack
    if message.status_page:
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


def deliver(plan: Plan, letter: Letter, *, look: bool, again: bool = False) -> SentMessage:
    """One try to deliver one letter. ``look``: ask the channel first whether an earlier try got through; ``again``:
    this is the redelivery. Never raises: what went wrong is the entry's ``problem``.
    """
    problem = ""
    try:
        if letter.kind == "slack":
            slack.post(plan, letter, look=look, again=again)
        elif letter.kind == "status page":
            status_page.show(plan, letter)
        else:
            mail.send(plan, letter)
    except Exception as error:
        log.warning("not delivered (%s): %s", letter.channel, error)
        problem = type(error).__name__
    return _entry(letter, problem)


def run_link(ti: Any, run_id: str) -> str:
    """Where the run is seen in Airflow; empty when nobody knows this Airflow's address."""
    from urllib.parse import quote

    from airflow.sdk.configuration import conf

    base = conf.get("api", "base_url", fallback="") or ""
    dag = getattr(ti, "dag_id", "")
    return f"{base.rstrip('/')}/dags/{quote(dag, safe='')}/runs/{quote(run_id, safe='')}" if base and dag else ""


def ticket(plan: Plan, summary: str, description: str, due: str, label: str = "") -> str:
    """Opens an incident ticket and gives its key, or the reason why there is none. ``due``: YYYY-MM-DD."""
    fields = {
        "project": {"key": plan.messages.ticket_project},
        "issuetype": {"name": "Incident"},
        "summary": summary,
        "description": description,
        "duedate": due,
        **({"labels": [label]} if label else {}),
    }
    try:
        answer = call(
            plan.messages.ticket_connection, "POST", plan.messages.ticket_path, json={"fields": fields},
            timeout=plan.messages.timeout_seconds,
        )  # fmt: skip
        return str(answer.json()["key"])
    except Exception as error:
        log.warning("no ticket was opened: %s", error)
        return f"none ({type(error).__name__})"


def _tries_before(ti: Any) -> int:
    """Tries before somebody cleared the task: that person wants it done anew, and so told anew (a question, say)."""
    retries = getattr(getattr(ti, "task", None), "retries", None) or 0
    return max(0, (getattr(ti, "max_tries", None) or 0) - retries)


def _once(plan: Plan, letter: Letter, store: Any, *, look: bool) -> SentMessage:
    """What an earlier try of this task has delivered, or given to the redelivery, is not sent again."""
    mark = f"told_{hashlib.sha256(letter.key.encode()).hexdigest()[:32]}"
    with contextlib.suppress(Exception):  # without the store it is as on a first try
        if store is not None and (known := store.get(mark)):
            return SentMessage.model_validate(known)
    sent = deliver(plan, letter, look=look)
    try:
        if store is not None and (sent.delivered or plan.announcements):
            store.set(mark, sent.model_dump(mode="json"))
    except Exception as error:
        log.warning("a later try will not know of %s: %s", letter.key, error)
    return sent


def _entry(letter: Letter, problem: str) -> SentMessage:
    return SentMessage(at=letter.at, channel=letter.channel, text=letter.said, problem=problem)


def _leave(ti: Any, key: str, more: list[Any]) -> None:
    """Adds to what this task has left before it waited for an answer."""
    before = ti.xcom_pull(task_ids=getattr(ti, "task_id", ""), key=key) or []
    ti.xcom_push(key=key, value=[*before, *(one.model_dump(mode="json") for one in more)])
