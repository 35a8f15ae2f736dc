"""Slack, the status page, Jira and the mail server, whatever they answer: delivered, or a reason; never an error."""

from __future__ import annotations

import io
import smtplib
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handover.adapters import jira
from handover.adapters.refusals import MAX_WORDS, spoken
from handover.models.message import Letter, PageUpdate
from handover.people import channels, tickets
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.ports.channel import NewTicket
from tests.fuzz.network import BODIES, HEADERS, network, said
from tests.fuzz.strategies import ANYTHING, TEXT, changed
from tests.support.fuzz import fuzz, nothing_happens, tried
from tests.support.steps import connect_to

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
PASSWORD = "s3cret-of-the-channel"
HOST = "channel.example"
SLACK = Letter(key="k", kind="slack", to=("#pms-deployments",), text="hello", at=1e9)
PAGE = Letter(
    key="k", kind="status page", to=(), text="hello", at=1e9,
    page=PageUpdate(status="resolved", version="v1.1.0", deployment="d"),
)  # fmt: skip
MAIL = Letter(key="k", kind="e-mail", to=("a@x.example",), text="hello", subject="s", at=1e9)

SLACK_SAYS = {
    "ok": True, "error": "x", "needed": "y", "response_metadata": {"next_cursor": "n", "messages": ["m"]},
    "channels": [{"id": "C1", "name": "pms-deployments"}],
    "messages": [{"ts": "1", "metadata": {"event_type": "pms_message", "event_payload": {"key": "k"}}}],
}  # fmt: skip
TAG = {"plan": "pms", "deployment": "d", "version": "v1.1.0", "at": 1.0}
PAGE_SAYS = [
    {"id": "i", "status": status, "metadata": {"pms": TAG}} for status in ("identified", "in_progress", "resolved")
]
JIRA_SAYS = {
    "key": "PMS-1", "issues": [{"key": "PMS-1", "fields": {"labels": ["l"]}}], "nextPageToken": "t", "isLast": False,
    "total": 3, "startAt": 0, "errors": {"issuetype": "wrong"}, "issueTypes": [{"name": "Task"}],
}  # fmt: skip


@pytest.fixture(autouse=True)
def connected(monkeypatch):
    m = PLAN.messages
    for name, kind in ((m.status_page_connection, "http"), (m.ticket_connection, "http")):
        connect_to(monkeypatch, name, conn_type=kind, host=f"https://{HOST}", login="me", password=PASSWORD)
    extra = {"base_url": f"https://{HOST}/api/"}
    connect_to(monkeypatch, m.slack_connection, conn_type="slack", password=PASSWORD, extra=extra)
    connect_to(monkeypatch, m.email_connection, conn_type="smtp", host=HOST, login="me", password=PASSWORD,
               extra={"disable_ssl": True, "disable_tls": True})  # fmt: skip
    monkeypatch.setattr(jira, "PAUSES_SECONDS", (0.0, 0.0))


def delivered(letter, answers):
    with network(answers) as there:
        sent, _ = tried(lambda: channels.deliver(PLAN, letter, look=True))
    assert PASSWORD not in sent.problem and len(sent.problem) <= 2 * MAX_WORDS
    assert there.hosts_with(PASSWORD) <= {HOST}
    return sent, there


def asked_by_us(there, answers):
    """Addresses made of what was answered; none where an answer leads elsewhere on its own host, as it may."""
    led = any(300 <= one.status < 400 for one in answers)
    return [] if led else [one.url for one in there.asked if HOST in one.url]


def answers_like(good):
    return st.lists(said(changed(good) | st.just(good) | BODIES, HEADERS), min_size=1, max_size=5)


@fuzz("channels")
@given(answers=answers_like(SLACK_SAYS))
def test_slack_has_taken_it_or_there_is_a_reason(answers):
    delivered(SLACK, answers)


@fuzz("channels")
@given(answers=answers_like(PAGE_SAYS))
def test_the_status_page_has_taken_it_or_there_is_a_reason(answers):
    _, there = delivered(PAGE, answers)
    path = f"https://{HOST}{PLAN.messages.status_page_path}"
    ours = asked_by_us(there, answers)
    assert all(one.startswith((f"{path}/", f"{path}?")) or one == path for one in ours)
    assert not [one for one in ours if ".." in one or "#" in one]


@fuzz("channels")
@given(answers=answers_like(JIRA_SAYS))
def test_jira_has_a_ticket_or_there_is_a_reason(answers):
    wanted = NewTicket(label="l", kind="Task", summary="s", description="d", due="2026-12-01")
    with network(answers) as there:
        key, _ = tried(lambda: tickets.key_or_reason(PLAN, wanted))
    assert key and PASSWORD not in key and len(key) < 3 * MAX_WORDS
    assert there.hosts_with(PASSWORD) <= {HOST}
    assert not [url for url in asked_by_us(there, answers) if ".." in url or "#" in url]


class Socket:
    """What smtplib needs of one."""

    def __init__(self, says):
        self.says = says

    def makefile(self, *_):
        return io.BytesIO(self.says)

    def sendall(self, _):
        pass

    def close(self):
        pass


LINES = st.binary(max_size=30) | st.sampled_from([
    b"220 hello\r\n", b"250 ok\r\n", b"250-SIZE x\r\n", b"235 in\r\n", b"354 go\r\n", b"x" * 9000,
    b"550 no s3cret-of-the-channel\r\n",
])  # fmt: skip


@fuzz("channels")
@given(lines=st.lists(LINES, max_size=14))
def test_a_mail_server_has_taken_it_or_there_is_a_reason(lines):
    server = mock.patch.object(smtplib.SMTP, "_get_socket", return_value=Socket(b"".join(lines)))
    with server, nothing_happens("os.mkdir", "os.rmdir", "shutil.rmtree"):  # its folder for attachments
        sent = channels.deliver(PLAN, MAIL, look=True)
    assert PASSWORD not in sent.problem and len(sent.problem) <= 2 * MAX_WORDS


@fuzz("channels")
@given(content=st.binary(max_size=200) | TEXT.map(lambda text: text.encode(errors="replace")))
def test_what_a_service_says_is_one_short_line(content):
    found, _ = tried(lambda: spoken(content, "me", PASSWORD))
    assert len(found) <= MAX_WORDS and found.splitlines() in ([], [found])


@fuzz("channels")
@given(answer=ANYTHING)
def test_what_a_service_says_in_json_is_one_short_line(answer):
    import json

    for body in ({"errors": answer}, {"message": answer, "errorMessages": [answer]}, answer):
        found, _ = tried(lambda body=body: spoken(json.dumps(body).encode(), "me", PASSWORD))
        assert len(found) <= MAX_WORDS and found.splitlines() in ([], [found])
