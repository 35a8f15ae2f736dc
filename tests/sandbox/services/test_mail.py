"""Mail is taken over SMTP and can be read from the recorder."""

from __future__ import annotations

import smtplib
from email.message import EmailMessage

import pytest


def send(settings, mail):
    with smtplib.SMTP(settings.host("smtp"), settings.port("smtp"), timeout=5) as server:
        server.send_message(mail)


@pytest.fixture
def mail():
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "a@example.com", "b@example.com, c@example.com", "Rückkehr zu v1.0.0"
    mail["Message-ID"] = "<1@example.com>"
    mail.set_content("Grüße")
    mail.add_alternative("<b>Grüße</b>", subtype="html")
    return mail


def test_a_mail_is_recorded_decoded(settings, recorder, mail):
    send(settings, mail)
    (call,) = recorder.get("/recorded", params={"service": "smtp"}).json()
    assert call["body"] == {
        "from": "a@example.com",
        "to": ["b@example.com", "c@example.com"],
        "subject": "Rückkehr zu v1.0.0",
        "message_id": "<1@example.com>",
        "text": "Grüße",
        "html": "<b>Grüße</b>",
    }


def test_a_mail_that_cannot_be_recorded_is_refused(settings, recorder, mail):
    recorder.put("/answers/smtp", json={"status": 503, "body": ""})
    with pytest.raises(smtplib.SMTPDataError, match="recorder"):
        send(settings, mail)
