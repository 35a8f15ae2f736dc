"""Carries messages to Slack, the status page, e-mail and the ticket system.

Notify open: a channel that is down is logged and never fails or holds up a deployment.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from pms.http import call

if TYPE_CHECKING:
    from pms.people.messages import Message
    from pms.plan.model import Plan

log = logging.getLogger(__name__)


def send(plan: Plan, message: Message) -> list[str]:
    """Sends to every channel of the message; gives the channels that failed, each with its reason."""
    m = plan.messages
    channel = m.incidents_channel if message.incident_channel else m.deployments_channel
    sent = {f"slack {channel}": _attempt(lambda: _slack(plan, channel, message.slack))}
    if message.status_page:
        sent["status page"] = _attempt(lambda: _status_page(plan, message.status_page, message.slack))
    to = [*(m.stakeholders if message.to_stakeholders else ()), *(m.users if message.to_users else ())]
    if to:
        sent["e-mail"] = _attempt(lambda: _email(plan, to, message.subject, message.slack))
    return [f"{where}: {reason}" for where, reason in sent.items() if reason]


def ticket(plan: Plan, summary: str, description: str, due: str) -> str:
    """Opens an incident ticket and gives its key, or the reason why there is none. ``due``: YYYY-MM-DD."""
    fields = {
        "project": {"key": plan.messages.ticket_project},
        "issuetype": {"name": "Incident"},
        "summary": summary,
        "description": description,
        "duedate": due,
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


def _attempt(action: Callable[[], None]) -> str:
    try:
        action()
    except Exception as error:
        log.warning("a message was not delivered: %s", error)
        return f"{type(error).__name__}"
    return ""


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
