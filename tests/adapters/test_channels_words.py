"""Slack and the mail server, when they refuse: what they say is what people are told."""

from __future__ import annotations

import smtplib

import pytest
from airflow.providers.smtp.hooks.smtp import SmtpHook

from handover.adapters.slack import Slack
from handover.adapters.smtp import Smtp
from handover.models.message import Letter
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.ports.channel import ServiceRefused
from tests.support.steps import connect_to
from tests.support.web import Answer, serving

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
LETTER = Letter(key="k", kind="slack", to=("#c",), text="hello", at=0.0)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"error": "missing_scope", "needed": "chat:write", "provided": "x"}, "missing_scope; needed: chat:write"),
        ({"error": "invalid_blocks", "response_metadata": {"messages": ["[ERROR] no more than 50 items"]}},
         "invalid_blocks; [ERROR] no more than 50 items"),
        ({"error": "channel_not_found"}, "channel_not_found"),
    ],
)  # fmt: skip
def test_slack_says_what_it_needs(monkeypatch, said, words):
    with serving(lambda _: Answer(200, {"ok": False} | said)) as web:
        extra = {"base_url": f"{web.url}/api/"}
        connect_to(monkeypatch, "pms_slack", conn_type="slack", password="xoxb-secret", extra=extra)
        with pytest.raises(ServiceRefused) as refused:
            Slack(PLAN).deliver(LETTER, look=False)
    assert str(refused.value) == words


@pytest.mark.parametrize("form", ["xoxb-s3cret", "Bearer xoxb-s3cret", "token=xoxb-s3cret&channel=c"])
def test_what_slack_says_has_no_secret_of_ours(monkeypatch, form):
    """It may be a proxy that answers, and shows what it was sent."""
    said = {"ok": False, "error": f"refused: {form}", "needed": form, "response_metadata": {"messages": [form]}}
    with serving(lambda _: Answer(200, said)) as web:
        extra = {"base_url": f"{web.url}/api/", "proxy_secret": "als0-s3cret"}
        connect_to(monkeypatch, "pms_slack", conn_type="slack", password="xoxb-s3cret", extra=extra)
        with pytest.raises(ServiceRefused, match="refused") as refused:
            Slack(PLAN).deliver(LETTER, look=False)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_takes_neither_token_nor_message_to_another_host(monkeypatch, status):
    with serving(lambda _: Answer(200, {"ok": True})) as elsewhere:
        away = Answer(status, headers={"Location": f"{elsewhere.url}/api/chat.postMessage"})
        with serving(lambda _: away) as web:
            connect_to(monkeypatch, "pms_slack", conn_type="slack", password="x", extra={"base_url": f"{web.url}/api/"})
            with pytest.raises(ServiceRefused):
                Slack(PLAN).deliver(LETTER, look=False)
    assert (len(web.asked), elsewhere.asked) == (1, [])


def test_slacks_fallback_text_calls_nobody_and_opens_no_preview(monkeypatch):
    hostile = LETTER.model_copy(update={"text": "@here <!channel> <https://evil.example|log in> a & b"})
    with serving(lambda _: Answer(200, {"ok": True})) as web:
        connect_to(monkeypatch, "pms_slack", conn_type="slack", password="x", extra={"base_url": f"{web.url}/api/"})
        Slack(PLAN).deliver(hostile, look=False)
    (asked,) = web.asked
    assert asked.body["text"] == "@here &lt;!channel&gt; &lt;https://evil.example|log in&gt; a &amp; b"
    assert (asked.body["unfurl_links"], asked.body["unfurl_media"]) == (False, False)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (smtplib.SMTPDataError(554, b"5.7.1 secret is no\r\n sender of ours"), "554 5.7.1 *** is no sender of ours"),
        (smtplib.SMTPRecipientsRefused({"a@x": (550, b"unknown"), "b@x": (452, b"full")}),
         "a@x: 550 unknown; b@x: 452 full"),
    ],
)  # fmt: skip
def test_a_mail_server_says_whom_or_what_it_does_not_take(monkeypatch, error, words):
    def refuse(*_, **__):
        raise error

    connect_to(monkeypatch, PLAN.messages.email_connection, conn_type="smtp", host="mail", password="secret")
    monkeypatch.setattr(SmtpHook, "get_conn", lambda self: self)
    monkeypatch.setattr(SmtpHook, "__enter__", lambda self: self)
    monkeypatch.setattr(SmtpHook, "__exit__", lambda *_: None)
    monkeypatch.setattr(SmtpHook, "send_email_smtp", refuse)
    with pytest.raises(ServiceRefused) as refused:
        Smtp(PLAN).deliver(LETTER.model_copy(update={"kind": "e-mail", "to": ("a@x", "b@x")}), look=False)
    assert str(refused.value) == words
