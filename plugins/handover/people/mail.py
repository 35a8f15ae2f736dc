"""Sends a letter as e-mail. Its Message-ID comes from its key, so that a second one is told for what it is."""

from __future__ import annotations

import hashlib
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.providers.smtp.hooks.smtp import SmtpHook

    from handover.models.message import Letter
    from handover.plan.model import Plan


def message_id(key: str, sender: str) -> str:
    """The same for the same key, below the sender's domain."""
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    return f"<{digest}@{sender.rpartition('@')[2].strip('> ')}>"


def hook(plan: Plan) -> SmtpHook:
    """Airflow's, but with one try within the plan's timeout."""
    from airflow.providers.smtp.hooks.smtp import SmtpHook

    class Once(SmtpHook):
        """Airflow's hook waits for up to 30 s and tries six times; nobody has that time here."""

        timeout = max(1, int(plan.messages.timeout_seconds))
        smtp_retry_limit = 0

    return Once(smtp_conn_id=plan.messages.email_connection)


def send(plan: Plan, letter: Letter) -> None:
    """One try; raises what smtplib and Airflow's hook raise."""
    sender = plan.messages.email_from
    with hook(plan) as smtp:
        smtp.send_email_smtp(
            to=list(letter.to), subject=letter.subject, from_email=sender,
            html_content=escape(letter.text).replace("\n", "<br>"),
            custom_headers={"Message-ID": message_id(letter.key, sender)},
        )  # fmt: skip
