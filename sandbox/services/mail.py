"""A mail server that hands every mail to the recorder, as service `smtp`. `python -m sandbox.services.mail`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import httpx
from aiosmtpd.smtp import SMTP, Envelope, Session

from sandbox.processes import Process
from sandbox.services import ready
from sandbox.services.component import Component, Context


class Forward:
    """aiosmtpd's handler. A mail that cannot be recorded is refused, so that its sender knows."""

    def __init__(self, recorder: str) -> None:
        self._url = f"{recorder}/smtp/mail"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        content = envelope.content if isinstance(envelope.content, bytes) else (envelope.content or "").encode()
        mail = {"from": envelope.mail_from, "to": envelope.rcpt_tos, **read(content)}
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
                (await client.post(self._url, json=mail)).raise_for_status()
        except httpx.HTTPError:
            return "451 the recorder does not answer"
        return "250 OK"


def read(content: bytes) -> dict[str, Any]:
    """Subject, id, texts and attached files of a mail, decoded."""
    mail = message_from_bytes(content, policy=default)
    assert isinstance(mail, EmailMessage)
    texts: dict[str, Any] = {
        kind: part.get_content().strip()
        for kind, name in (("text", "plain"), ("html", "html"))
        if (part := mail.get_body((name,))) is not None
    }
    files = {str(part.get_filename()): part.get_content() for part in mail.iter_attachments()}
    attached = {name: body.decode() if isinstance(body, bytes) else body for name, body in files.items()}
    if attached:
        texts["files"] = attached
    return {"subject": str(mail["subject"] or ""), "message_id": str(mail["message-id"] or ""), **texts}


async def serve(host: str, port: int, recorder: str) -> None:
    loop = asyncio.get_running_loop()
    handler = Forward(recorder)
    server = await loop.create_server(lambda: SMTP(handler, hostname="mail.sandbox", enable_SMTPUTF8=True), host, port)
    async with server:
        await server.serve_forever()


class Mail(Component):
    """The mail server on its address."""

    name = "smtp"
    needs = ("recorder",)

    def start(self, context: Context) -> None:
        settings = context.settings
        host, port = settings.host(self.name), settings.port(self.name)
        argv = [
            sys.executable, "-m", "sandbox.services.mail", "--host", host, "--port", str(port),
            "--recorder", settings.url("recorder"),
        ]  # fmt: skip
        process = context.own(Process(self.name, argv, settings.log(self.name)))
        ready.until_listening(host, port, process)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox.services.mail", description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--recorder", required=True)
    given = parser.parse_args()
    asyncio.run(serve(given.host, given.port, given.recorder))


if __name__ == "__main__":
    main()
