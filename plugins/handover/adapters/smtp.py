"""Sends letters as e-mail. The Message-ID comes from a letter's key, so that a second one is told for what it is."""

from __future__ import annotations

import hashlib
import smtplib
import tempfile
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from handover.adapters.refusals import MAX_WORDS, hidden
from handover.plan.parts import required
from handover.ports.channel import ServiceRefused

if TYPE_CHECKING:
    from airflow.providers.smtp.hooks.smtp import SmtpHook

    from handover.models.message import Letter
    from handover.plan.model import Plan

INVITE = "invite.ics"


class Smtp:
    """A mail server, through an Airflow connection. It cannot be asked what it has taken."""

    def __init__(self, plan: Plan) -> None:
        self._messages = plan.messages

    def deliver(self, letter: Letter, *, look: bool) -> None:
        """Raises what smtplib and Airflow's hook raise when there is no answer."""
        sender = required(self._messages.email_from, "messages.email_from")
        try:
            with tempfile.TemporaryDirectory() as folder, self._hook() as smtp:
                smtp.send_email_smtp(
                    to=list(letter.to), subject=letter.subject, from_email=sender,
                    html_content=escape(letter.text).replace("\n", "<br>"), files=_files(letter, Path(folder)),
                    custom_headers={"Message-ID": message_id(letter.key, sender)},
                )  # fmt: skip
        except smtplib.SMTPResponseException as error:
            said = error.smtp_error
            text = said if isinstance(said, str) else said.decode(errors="replace")
            raise ServiceRefused(f"{error.smtp_code} {self._without_secrets(text)}") from None
        except smtplib.SMTPRecipientsRefused as error:
            told = (f"{to}: {code} {text.decode(errors='replace')}" for to, (code, text) in error.recipients.items())
            raise ServiceRefused(self._without_secrets("; ".join(told))) from None

    def _without_secrets(self, text: str) -> str:
        from airflow.sdk import BaseHook

        where = BaseHook.get_connection(required(self._messages.email_connection, "messages.email_connection"))
        return hidden(" ".join(text.split()), where.login or "", where.password or "", {})[:MAX_WORDS]

    def _hook(self) -> SmtpHook:
        """Airflow's, but with one try within the plan's timeout."""
        from airflow.providers.smtp.hooks.smtp import SmtpHook

        class Once(SmtpHook):
            """Airflow's hook waits for up to 30 s and tries six times; nobody has that time here."""

            timeout = max(1, int(self._messages.timeout_seconds))
            smtp_retry_limit = 0

        return Once(smtp_conn_id=required(self._messages.email_connection, "messages.email_connection"))


def message_id(key: str, sender: str) -> str:
    """The same for the same key, below the sender's domain."""
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    return f"<{digest}@{sender.rpartition('@')[2].strip('> ')}>"


def _files(letter: Letter, folder: Path) -> list[str]:
    """Airflow's hook takes attachments from the disk."""
    if not letter.invite:
        return []
    path = folder / INVITE
    path.write_text(letter.invite, encoding="utf-8", newline="")
    return [str(path)]
