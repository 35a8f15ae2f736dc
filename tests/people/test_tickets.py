"""Tickets are opened once, in either kind of Jira, and one that cannot be opened is not lost in silence."""

from __future__ import annotations

import base64
import re
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from handover.coordination import state
from handover.outside import outside, standing_in
from handover.people import tickets
from handover.people.operators import OpenTicket
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.ports.channel import NewTicket, ServiceRefused
from tests.support.steps import connect_to, release, run
from tests.support.web import Answer, Asked, serving
from tests.twins.channels import TICKETS, TwinChannels
from tests.twins.world import quick_plan, twin, virtual_time, world  # noqa: F401 - fixtures

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
KEYS = "messages.ticket_incident_type and messages.ticket_task_type"
SERVER, CLOUD = "/rest/api/2/search", "/rest/api/3/search/jql"
IMAGE = "registry.example.com/shop/web@sha256:1"


def ticket(label: str = "", kind: str = "Task") -> NewTicket:
    return NewTicket(label or f"pms-test-{uuid.uuid4().hex}", kind, "update runbooks", "because", "2026-11-25")


def test_a_label_is_one_word_and_one_per_plan_purpose_and_subject():
    deployment = "manual__2026-11-18T14:00:00+00:00"
    plans = (PLAN, PLAN.model_copy(update={"name": "shop"}))
    purposes = ("runbooks", "analysis")
    abouts = [(deployment,), (f"{deployment}1",), (deployment, "cpu", "1.000"), (deployment, "cpu", "2.000")]
    labels = {tickets.label(one, purpose, *about) for one in plans for purpose in purposes for about in abouts}
    assert len(labels) == 16 and all(re.fullmatch(r"(pms|shop)-[a-z]+-[0-9a-f]{16}", one) for one in labels)
    assert tickets.label(PLAN, "runbooks", deployment) in labels


@pytest.mark.plan(
    "Analysis of any issues encountered",
    "Update documentation based on learnings",
    "Update runbooks and processes",
    "Plan next improvements/features",
)
def test_the_second_time_finds_the_first_ones_ticket(told):
    wanted = ticket()
    key, new = tickets.open_once(PLAN, wanted)
    assert new and key.startswith("PMS-")
    assert tickets.open_once(PLAN, wanted) == (key, False)
    opened = [call["body"]["fields"] for call in told() if call["path"].endswith("/issue")]
    assert [(o["labels"], o["duedate"]) for o in opened] == [([wanted.label], "2026-11-25")]


@pytest.mark.plan(
    "Schedule post-mortem (within 24 hours)", "Post-mortem meeting (if any issues)", "Post-mortem scheduled"
)
def test_the_rollbacks_own_ticket_is_the_post_mortems(told):
    mark = tickets.label(PLAN, tickets.POST_MORTEM, str(uuid.uuid4()))
    key = tickets.key_or_reason(PLAN, ticket(mark, "Incident"))
    assert tickets.open_once(PLAN, ticket(mark)) == (key, False)


def test_a_ticket_system_that_is_away_raises_so_that_it_is_tried_again(told):
    told.away("jira")
    with pytest.raises(ServiceRefused, match="503"):
        tickets.open_once(PLAN, ticket())


@dataclass
class Jira:
    """``search``: the path that this kind of Jira has; ``gone``: what it answers on the other's. ``empty``: pages that
    come before the one with the answer. ``loses``: answers to a new ticket that a gateway loses.
    """

    search: str
    gone: int
    empty: int = 0
    loses: int = 0
    refuses: dict[str, Any] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)

    def __call__(self, asked: Asked) -> Answer:
        if asked.path == "/rest/api/2/issue":
            return self.open(asked.body["fields"])
        if asked.path != self.search:
            return Answer(self.gone, {"errorMessages": ["The requested API has been removed."], "errors": {}})
        page = int(asked.body.get("nextPageToken", "0"))
        if page < self.empty:
            return Answer(200, {"issues": [], "nextPageToken": str(page + 1)})
        found = [label for label in self.labels if f'labels = "{label}"' in asked.body["jql"]]
        return Answer(200, {"issues": [{"key": f"PMS-{self.labels.index(label) + 1}"} for label in found]})

    def open(self, fields: dict[str, Any]) -> Answer:
        if self.refuses:
            return Answer(400, self.refuses)
        self.labels += fields["labels"]
        self.loses -= 1
        return Answer(502, b"<html>") if self.loses >= 0 else Answer(201, {"key": f"PMS-{len(self.labels)}"})


def planned(path: str | None):
    """The plan whose search path is this; None: a plan without follow-ups, which names none."""
    section = PLAN.followups.model_copy(update={"ticket_search_path": path}) if path else None
    return PLAN.model_copy(update={"followups": section})


@pytest.fixture
def jira_at(monkeypatch):
    def connect(web):
        connect_to(monkeypatch, "pms_jira", host=web.url, login="me", password="secret")

    return connect


@pytest.mark.parametrize("path", [SERVER, CLOUD, None])
@pytest.mark.parametrize(
    "jira", [lambda: Jira(SERVER, 404), lambda: Jira(CLOUD, 410), lambda: Jira(CLOUD, 410, empty=2)]
)
def test_both_kinds_of_jira_are_asked_on_the_path_that_they_have(jira_at, jira, path):
    made, wanted = jira(), ticket()
    with serving(made) as web:
        jira_at(web)
        assert tickets.open_once(planned(path), wanted) == ("PMS-1", True)
        assert tickets.open_once(planned(path), wanted) == ("PMS-1", False)
    assert made.labels == [wanted.label]
    assert web.asked[0].path == (path or SERVER)


def test_a_jira_that_has_neither_path_is_a_refusal_and_opens_nothing(jira_at):
    made = Jira("/elsewhere", 404)
    with serving(made) as web:
        jira_at(web)
        with pytest.raises(ServiceRefused, match=r"404 The requested API has been removed\."):
            tickets.open_once(PLAN, ticket())
    assert [one.path for one in web.asked] == [SERVER, CLOUD]
    assert made.labels == []


def test_a_ticket_whose_answer_was_lost_on_the_way_is_found_by_the_next_try(jira_at):
    made, wanted = Jira(SERVER, 404, loses=1), ticket()
    with serving(made) as web:
        jira_at(web)
        with pytest.raises(ServiceRefused, match="502 Bad Gateway"):
            tickets.open_once(PLAN, wanted)
        assert tickets.open_once(PLAN, wanted) == ("PMS-1", False)
    assert made.labels == [wanted.label]


@dataclass
class Lagging:
    """A Jira whose search learns of one more ticket every ``lag`` questions, in the order in which they were opened.
    ``deletes``: whether we may delete; ``meanwhile``: labels of tickets that another process opens right before ours.
    """

    lag: int = 1
    deletes: bool = True
    meanwhile: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    known: int = 0
    asked: int = 0
    changed: list[Any] = field(default_factory=list)
    turn: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, asked: Asked) -> Answer:
        with self.turn:
            if asked.path == "/rest/api/2/issue":
                self.labels += [*self.meanwhile, *asked.body["fields"]["labels"]]
                self.meanwhile = []
                return Answer(201, {"key": f"PMS-{len(self.labels)}"})
            if asked.path == SERVER:
                return self.search(asked.body["jql"])
            number = int(asked.path.rpartition("-")[2]) - 1
            if asked.method == "DELETE" and not self.deletes:
                return Answer(403, {"errorMessages": ["You do not have permission to delete issues in this project."]})
            self.labels[number] = ""
            self.changed.append((asked.method, asked.body))
            return Answer(204)

    def search(self, jql: str) -> Answer:
        self.asked += 1
        if self.lag and self.asked % self.lag == 0:
            self.known += 1
        shown = [n for n, label in enumerate(self.labels[: self.known], 1) if label and f'labels = "{label}"' in jql]
        return Answer(200, {"issues": [{"key": f"PMS-{n}"} for n in reversed(shown)]})

    def open_with(self, label: str) -> list[int]:
        return [number for number, one in enumerate(self.labels, 1) if one == label]


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("lag", [1, 2])
def test_a_ticket_that_the_search_does_not_know_yet_is_found_behind_the_second_one_which_goes(jira_at, lag):
    wanted = ticket()
    made = Lagging(lag, labels=["other", wanted.label])
    with serving(made) as web:
        jira_at(web)
        assert tickets.open_once(PLAN, wanted) == ("PMS-2", False)
        assert made.open_with(wanted.label) == [2]
        assert tickets.open_once(PLAN, wanted) == ("PMS-2", False)
    assert made.changed == [("DELETE", None)]


@pytest.mark.usefixtures("virtual_time")
def test_of_two_that_are_opened_at_once_the_older_one_is_the_ticket(jira_at):
    wanted = ticket()
    made = Lagging(meanwhile=[wanted.label])
    with serving(made) as web:
        jira_at(web)
        assert tickets.open_once(PLAN, wanted) == ("PMS-1", False)
    assert made.open_with(wanted.label) == [1]


@pytest.mark.usefixtures("virtual_time")
def test_a_double_that_may_not_be_deleted_loses_its_label_and_says_whose_it_is(jira_at):
    wanted = ticket()
    made = Lagging(meanwhile=[wanted.label], deletes=False)
    with serving(made) as web:
        jira_at(web)
        assert tickets.open_once(PLAN, wanted) == ("PMS-1", False)
    ((method, body),) = made.changed
    assert method == "PUT"
    assert body["update"]["labels"] == [{"remove": wanted.label}, {"add": f"{wanted.label}-double"}]
    assert body["update"]["comment"] == [{"add": {"body": "Opened at the same time as PMS-1, which goes on."}}]


def test_a_search_that_never_knows_of_the_ticket_is_not_waited_for_for_ever(jira_at, virtual_time):  # noqa: F811
    made, wanted = Lagging(lag=0), ticket()
    with serving(made) as web:
        jira_at(web)
        assert tickets.open_once(PLAN, wanted) == ("PMS-1", True)
    assert 10 < virtual_time.now < 20


@pytest.mark.parametrize("deletes", [True, False])
def test_however_many_processes_open_it_at_once_there_is_one_and_all_of_them_say_so(jira_at, monkeypatch, deletes):
    monkeypatch.setattr("handover.adapters.jira.PAUSES_SECONDS", (0.0,) * 60)
    wanted, made = ticket(), Lagging(lag=3, deletes=deletes)
    with serving(made) as web, ThreadPoolExecutor(6) as processes:
        jira_at(web)
        told = set(processes.map(lambda _: tickets.open_once(PLAN, wanted)[0], range(6)))
    assert told == {"PMS-1"}
    assert made.open_with(wanted.label) == [1]


BASIC = base64.b64encode(b"me:secret").decode()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            {"errorMessages": [], "errors": {"issuetype": "The issue type selected is invalid."}},
            "400 issuetype: The issue type selected is invalid.",
        ),
        ({"errorMessages": ["No project PMS.", "Really."], "errors": {}}, "400 No project PMS.; Really."),
        ({"errorMessages": [f"what is secret and {BASIC}?"]}, "400 what is *** and ***?"),
        ({"errors": ["x" * 9000]}, f"400 {'x' * 500}"),
        (["nonsense"], "400 Bad Request"),
        (b"<html><title>secret</title>", "400 Bad Request"),
        (b"the field secret\n  is wrong", "400 the field *** is wrong"),
        ({"errorMessages": "one text"}, "400 one text"),
        ({"errors": {"labels": ["no spaces", "not yours"]}}, "400 labels: no spaces; not yours"),
        ({"error": {"message": "over quota", "code": 7}}, "400 over quota"),
        ({"detail": "say%20it, s%65cret"}, "400 say%20it, s%65cret"),
    ],
)
def test_what_jira_refuses_is_told_in_its_own_words_and_without_secrets(jira_at, body, said):
    with serving(Jira(SERVER, 404, refuses=body)) as web:
        jira_at(web)
        assert tickets.key_or_reason(PLAN, ticket(kind="Incident")) == f"none (POST /rest/api/2/issue: {said})"


@pytest.mark.parametrize("shape", ["issueTypes", "values"])
def test_a_kind_that_the_project_lacks_is_told_with_those_that_it_has(jira_at, shape):
    def jira(asked: Asked) -> Answer:
        if asked.path == SERVER:
            return Answer(200, {"issues": []})
        if asked.path == "/rest/api/2/issue/createmeta/PMS/issuetypes":
            return Answer(200, {shape: [{"name": "Task"}, {"name": "Bug"}]})
        return Answer(400, {"errorMessages": [], "errors": {"issuetype": "The issue type selected is invalid."}})

    with serving(jira) as web:
        jira_at(web)
        said = tickets.key_or_reason(PLAN, ticket(kind="Incident"))
    refused = "POST /rest/api/2/issue: 400 issuetype: The issue type selected is invalid."
    assert said == f"none ({refused} The project PMS has: Task, Bug. Say which in {KEYS}.)"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer(200, b"<html>Log in</html>", {"Content-Type": "text/html; charset=utf-8"}),
         "POST /rest/api/2/search: 200, the answer is not JSON (text/html)"),
        (Answer(200, {"total": 0}), "the answer is none of Jira's: it has no issues"),
        (Answer(200, []), "the answer is none of Jira's: it has no issues"),
        (Answer(401, b""), "POST /rest/api/2/search: 401 Unauthorized"),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_told_for_what_it_is_and_opens_nothing(jira_at, answer, says):
    with serving(lambda _: answer) as web:
        jira_at(web)
        assert tickets.key_or_reason(PLAN, ticket()) == f"none ({says})"
    assert {one.path for one in web.asked} == {SERVER}


@pytest.mark.usefixtures("virtual_time")
def test_the_third_version_of_the_api_is_given_a_document(jira_at):
    def jira(asked: Asked) -> Answer:
        return Answer(201, {"key": "PMS-1"}) if asked.path.endswith("/issue") else Answer(200, {"issues": []})

    third = PLAN.messages.model_copy(update={"ticket_path": "/rest/api/3/issue"})
    with serving(jira) as web:
        jira_at(web)
        tickets.open_once(
            PLAN.model_copy(update={"messages": third}), NewTicket("l", "Task", "s", "one\n\ntwo", "2026-11-25")
        )
    (opened,) = [one for one in web.asked if one.path == "/rest/api/3/issue"]
    text = [{"type": "paragraph", "content": [{"type": "text", "text": "one"}]}, {"type": "paragraph", "content": []},
            {"type": "paragraph", "content": [{"type": "text", "text": "two"}]}]  # fmt: skip
    assert opened.body["fields"]["description"] == {"type": "doc", "version": 1, "content": text}


@pytest.mark.usefixtures("virtual_time")
def test_the_second_version_of_the_api_is_given_no_markup_of_others(jira_at):
    def jira(asked: Asked) -> Answer:
        return Answer(201, {"key": "PMS-1"}) if asked.path.endswith("/issue") else Answer(200, {"issues": []})

    hostile = "{html}<b>{html} [~ada] [log in|https://evil.example] !x.png!\nh1. head\nsee https://report.example/a-b_c"
    second = PLAN.messages.model_copy(update={"ticket_path": "/rest/api/2/issue"})
    with serving(jira) as web:
        jira_at(web)
        plan = PLAN.model_copy(update={"messages": second})
        tickets.open_once(plan, NewTicket("l", "Task", "s", hostile, "2026-11-25"))
    (opened,) = [one for one in web.asked if one.path == "/rest/api/2/issue"]
    assert opened.body["fields"]["description"].splitlines() == [
        r"\{html\}<b>\{html\} \[\~ada\] \[log in\|https://evil.example\] \!x.png\!", "&#104;1. head",
        "see https://report.example/a-b_c",
    ]  # fmt: skip


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture
def people(world):  # noqa: F811
    found = TwinChannels()
    with standing_in(found.outside(outside())):
        yield found


def met(world) -> None:  # noqa: F811
    """Clients have met the version."""
    change = {"switched_at": world.time.epoch()}

    async def remember(kube):
        await state.update(kube, world.plan.lock_name, world.token, lambda old: old.model_copy(update=change))

    world.run(remember)


def test_what_was_stopped_before_the_switch_has_no_ticket(world, people):  # noqa: F811
    evidence = run(OpenTicket(task_id="open_ticket", plan=world.plan), world.token, release(IMAGE)).evidence
    assert evidence.reason == "no ticket: nothing moved: v1.0.0 served on blue all the time"
    assert people.opened == {}


def test_a_rollback_that_is_killed_before_it_hears_of_its_ticket_opens_no_second_one(world, people):  # noqa: F811
    met(world)
    step = OpenTicket(task_id="open_ticket", plan=world.plan)
    people.lost = Killed()
    with pytest.raises(Killed):
        run(step, world.token, release(IMAGE))
    assert run(step, world.token, release(IMAGE)).evidence.reason.startswith("ticket PMS-1, post-mortem due ")
    ((label, (_, opened)),) = people.opened.items()
    assert (opened.kind, opened.label) == ("Incident", label)
    assert opened.summary.endswith("v1.1.0 was rolled back")


def test_a_rollback_whose_ticket_is_refused_goes_on_and_says_why(world, people):  # noqa: F811
    met(world)
    people.away.add(TICKETS)
    step = OpenTicket(task_id="open_ticket", plan=world.plan)
    evidence = run(step, world.token, release(IMAGE)).evidence
    assert evidence.passed and evidence.reason.startswith("ticket none (status 503), post-mortem due ")
