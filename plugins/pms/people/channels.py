"""Carries messages to Slack, the status page, e-mail and the ticket system.

Notify open: a channel that is down is logged and never fails or holds up a deployment.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pms.http import call
from pms.models.record import MESSAGES_KEY, SentMessage

if TYPE_CHECKING:
    from pms.people.messages import Message
    from pms.plan.model import Plan

log = logging.getLogger(__name__)


def tell(context: Any, plan: Plan, message: Message) -> list[str]:
    """Like `send`, and leaves for the record what was sent."""
    sent = deliver(plan, message)
    context["ti"].xcom_push(key=MESSAGES_KEY, value=[one.model_dump(mode="json") for one in sent])
    return _undelivered(sent)


def send(plan: Plan, message: Message) -> list[str]:
    """Sends to every channel of the message; gives the channels that failed, each with its reason."""
    return _undelivered(deliver(plan, message))


def deliver(plan: Plan, message: Message) -> list[SentMessage]:
    """Sends to every channel of the message."""
    m, text = plan.messages, message.slack
    channel = m.incidents_channel if message.incident_channel else m.deployments_channel
    sent = [_attempt(f"slack {channel}", text, lambda: _slack(plan, channel, text))]
    if message.status_page:
        sent.append(_attempt("status page", text, lambda: _status_page(plan, message.status_page, text)))
    to = [*(m.stakeholders if message.to_stakeholders else ()), *(m.users if message.to_users else ())]
    if to:
        sent.append(_attempt("e-mail", f"{message.subject}\n{text}", lambda: _email(plan, to, message.subject, text)))
    return sent


def _undelivered(sent: list[SentMessage]) -> list[str]:
    return [f"{one.channel}: {one.problem}" for one in sent if not one.delivered]


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


def _attempt(channel: str, text: str, action: Callable[[], None]) -> SentMessage:
    begun, problem = time.time(), ""
    try:
        action()
    except Exception as error:
        log.warning("a message was not delivered: %s", error)
        problem = type(error).__name__
    return SentMessage(at=begun, channel=channel, text=text, problem=problem)


def _slack(plan: Plan, channel: str, text: str) -> None:
    from airflow.providers.slack.hooks.slack import SlackHook

    hook = SlackHook(
        slack_conn_id=plan.messages.slack_connection, timeout=int(plan.messages.timeout_seconds), retry_handlers=[]
    )
    mrkdwn = text.replace("@here", "<!here>")
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": mrkdwn[:3000]}}]
    hook.call("chat.postMessage", json={"channel": channel, "text": text, "blocks": blocks})


def _status_page(plan: Plan, status: str, text: str) -> None:
    incident = {"name": f"{plan.title} deployment", "status": status, "body": text}
    call(
        plan.messages.status_page_connection, "POST", plan.messages.status_page_path, json={"incident": incident},
        timeout=plan.messages.timeout_seconds,
    )  # fmt: skip


def _email(plan: Plan, to: list[str], subject: str, text: str) -> None:
    from html import escape

    from airflow.providers.smtp.hooks.smtp import SmtpHook

    with SmtpHook(smtp_conn_id=plan.messages.email_connection) as hook:
        hook.send_email_smtp(
            to=to, subject=subject, from_email=plan.messages.email_from,
            html_content=escape(text).replace("\n", "<br>"),
        )  # fmt: skip
