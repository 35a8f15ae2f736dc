"""What every channel and ticket system promises: see `handover.ports.channel`. The twins in memory, and the adapters of
production before the recorder.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from handover.models.message import Letter, PageUpdate
from handover.outside import Outside, outside, standing_in
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.ports.channel import NewTicket, ServiceRefused
from tests.people.conftest import recorder, told  # noqa: F401 - fixtures
from tests.support.told import Told
from tests.twins.channels import TICKETS, TwinChannels

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
SERVICES = {"slack": "slack", "status page": "statuspage", "e-mail": "smtp"}
KINDS = ("slack", "status page", "e-mail")
NOW = 1_795_010_400.0


class Twin:
    def __init__(self) -> None:
        self.channels = TwinChannels()

    @contextmanager
    def away(self, kind: str) -> Iterator[None]:
        self.channels.away.add(kind)
        yield
        self.channels.away.discard(kind)

    def seen(self, letter: Letter) -> int:
        return len({one.key for one in self.channels.posted if one.text == letter.text})

    def opened(self, label: str) -> int:
        return int(label in self.channels.opened)


class Recorded:
    """``seen`` counts what people can tell apart: mails by their Message-ID."""

    def __init__(self, told: Told, tickets: str = "jira") -> None:  # noqa: F811
        self.told, self.services = told, SERVICES | {TICKETS: tickets}

    @contextmanager
    def away(self, kind: str) -> Iterator[None]:
        self.told.away(self.services[kind])
        yield
        self.told.back(self.services[kind])
        self.told.forget()  # what was refused was seen by nobody

    def seen(self, letter: Letter) -> int:
        if letter.kind == "slack":
            return len(self.told.posts(letter.text))
        if letter.kind == "status page":
            changes = [call["body"]["incident"] for call in self.told("statuspage", "POST", "PATCH")]
            return len([one for one in changes if one["body"] == letter.text])
        mails = [call["body"] for call in self.told("smtp")]
        return len({mail["message_id"] for mail in mails if letter.text in mail["html"]})

    def opened(self, label: str) -> int:
        asked = [
            call["body"]["fields"]
            for call in self.told(self.services[TICKETS], "POST")
            if call["path"].endswith("/issue")
        ]
        return len([fields for fields in asked if fields["labels"] == [label]])


def _people(request: pytest.FixtureRequest) -> Iterator[Twin | Recorded]:
    if request.param == "recorder":
        yield Recorded(request.getfixturevalue("told"))
        return
    twin = Twin()
    with standing_in(twin.channels.outside(Outside())):
        yield twin


@pytest.fixture(params=["twin", "recorder"])
def people(request: pytest.FixtureRequest) -> Iterator[Twin | Recorded]:
    yield from _people(request)


@pytest.fixture(params=["twin", "recorder", "cloud"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Twin | Recorded]:
    """Of tickets; ``cloud``: the other kind of Jira."""
    if request.param == "cloud":
        yield _cloud(request, monkeypatch)
    else:
        yield from _people(request)


def _cloud(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    told = request.getfixturevalue("told")  # noqa: F811
    connection = {"conn_type": "http", "host": f"{told.url}/jira-cloud", "login": "me", "password": "secret"}
    monkeypatch.setenv("AIRFLOW_CONN_PMS_JIRA", json.dumps(connection))
    return Recorded(told, tickets="jira-cloud")


def letter(kind: str, **more: str) -> Letter:
    """One that no other test sends."""
    name = uuid.uuid4().hex
    to = {"slack": ("#pms-deployments",), "status page": (), "e-mail": PLAN.messages.stakeholders}[kind]
    page = PageUpdate(status="in_progress", version=name, deployment=name) if kind == "status page" else None
    said = {"key": name, "text": f"hello {name}", "subject": "hello" if kind == "e-mail" else "", **more}
    return Letter(kind=kind, to=to, page=page, at=NOW, **said)


def deliver(one: Letter, *, look: bool = False) -> None:
    outside().channels[one.kind](PLAN).deliver(one, look=look)


def open_once(wanted: NewTicket) -> tuple[str, bool]:
    return outside().tickets(PLAN).open_once(wanted)


@pytest.fixture
def wanted() -> NewTicket:
    """A ticket that no other test opens."""
    return NewTicket(f"pms-test-{uuid.uuid4().hex}", "Task", "update runbooks", "because", "2026-11-25")


@pytest.mark.parametrize("kind", KINDS)
def test_a_letter_that_was_told_twice_is_seen_once(people, kind):
    one = letter(kind)
    deliver(one)
    deliver(one, look=True)
    assert people.seen(one) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_who_looks_for_a_letter_that_never_got_through_sends_it(people, kind):
    one = letter(kind)
    deliver(one, look=True)
    assert people.seen(one) == 1


@pytest.mark.parametrize("kind", ["slack", "e-mail"])
def test_the_same_words_under_another_key_are_another_letter(people, kind):
    one = letter(kind)
    deliver(one)
    deliver(one.model_copy(update={"key": "another"}), look=True)
    assert people.seen(one) == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("look", [False, True])
def test_a_channel_that_is_away_raises_and_takes_the_letter_when_it_is_back(people, kind, look):
    one = letter(kind)
    with people.away(kind), pytest.raises(ServiceRefused, match=r"503|451"):
        deliver(one, look=look)
    deliver(one, look=True)
    assert people.seen(one) == 1


def test_a_ticket_is_opened_once(system, wanted):
    key, new = open_once(wanted)
    assert new and key.startswith(f"{PLAN.messages.ticket_project}-")
    assert open_once(replace(wanted, summary="in other words")) == (key, False)
    assert system.opened(wanted.label) == 1


def test_another_label_is_another_ticket(system, wanted):
    first, _ = open_once(wanted)
    second, new = open_once(replace(wanted, label=f"{wanted.label}-2"))
    assert new and first != second


def test_a_ticket_system_that_is_away_raises_and_opens_nothing(system, wanted):
    with system.away(TICKETS), pytest.raises(ServiceRefused, match="503") as refused:
        open_once(wanted)
    assert refused.value.status == 503
    assert system.opened(wanted.label) == 0
    assert open_once(wanted)[1]
