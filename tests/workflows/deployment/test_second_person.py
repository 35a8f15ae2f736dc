"""What is overridden takes two people, before anything is touched: who started the run, and one whom the plan names."""

from __future__ import annotations

import asyncio
import datetime
import json
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk.exceptions import AirflowFailException
from hypothesis import given, settings
from hypothesis import strategies as st

from handover import clock
from handover.coordination import lock
from handover.evidence_seal import leave
from handover.foundation import EVIDENCE_KEY, unfounded
from handover.models.deployment import FencingToken
from handover.models.evidence import Evidence
from handover.models.readiness import Readiness
from handover.models.record import DECISION_KEY, Decision
from handover.outside import outside, standing_in
from handover.people.asking import calls
from handover.people.question import Remind, assigned
from handover.plan.change import OverrideRules
from handover.plan.model import Plan
from handover.plan.people import Asking, Role
from handover.readiness import result
from handover.step import FENCING_KEY, RELEASE_KEY
from handover.workflows.deployment.deciding import WindowOpen
from handover.workflows.deployment.overrides import (
    AGREED_KEY,
    SECOND_PERSON,
    Overridden,
    nobody_else,
    not_agreed,
    with_others,
)
from handover.workflows.deployment.second_person import AGREE, ASKED_KEY, REFUSE, SecondPerson
from tests.support.cluster import REPOSITORY, digest
from tests.support.steps import Opening, release
from tests.support.web import Answer, serving
from tests.twins.channels import TwinChannels

WEDNESDAY = datetime.datetime(2026, 11, 25, 9, tzinfo=datetime.UTC)
IN_WINDOW = datetime.datetime(2026, 12, 1, 15, tzinfo=datetime.UTC)
FROZEN = datetime.datetime(2026, 12, 22, 15, tzinfo=datetime.UTC)
PINNED = f"{REPOSITORY}@{digest('v1.1.0')}"
OUTSIDE_THE_WINDOW = {"window_override": True, "window_override_reason": "guests cannot check in"}
NOT_READY = {"readiness_override_reason": "a *security* fix"}
TOKEN = FencingToken(deployment="run", generation=1, stable="blue", preview="green")


class RunTi:
    """The XComs of a run, by task."""

    dag_id, run_id, map_index = "pms_deployment", "run", -1

    def __init__(self) -> None:
        self.task_id, self.left = SECOND_PERSON, dict[str, dict[str, Any]]()

    def put(self, task: str, key: str, value: Any) -> None:
        place = Opening(self.dag_id, task, self.run_id)
        leave(place, key, value)
        self.left.setdefault(task, {}).update(place.pushed)

    def xcom_push(self, key: str, value: Any) -> None:
        self.left.setdefault(self.task_id, {})[key] = json.loads(json.dumps(value))

    def xcom_pull(self, task_ids: str, key: str) -> Any:
        return self.left.get(task_ids, {}).get(key)


class Run:
    """One run up to its opening. ``starter``: who has started it; None: its schedule has."""

    def __init__(self, plan: Plan, starter: str | None, asked: dict[str, Any]) -> None:
        self.plan, self.ti = plan, RunTi()
        self.step = SecondPerson(task_id=SECOND_PERSON, plan=plan, release_from="release_due")
        run = SimpleNamespace(triggering_user_name=starter, run_type="manual" if starter else "scheduled")
        self.context: Any = {"ti": self.ti, "run_id": "run", "dag_run": run}
        self.release = release(f"{REPOSITORY}:v1.1.0").model_copy(update=asked)
        self.ti.put("release_due", RELEASE_KEY, self.release.model_dump(mode="json"))

    def asked(self) -> str:
        """The page of the question; or, where nobody is asked, how the step ended."""
        return str(self.step.execute(self.context))

    def answered(self, choice: str, who: str | None) -> str:
        """Raises `AirflowFailException`; in a process of its own, as Airflow goes on."""
        again = SecondPerson(task_id=SECOND_PERSON, plan=self.plan, release_from="release_due")
        event: dict[str, Any] = {
            "chosen_options": [choice], "params_input": {}, "responded_at": WEDNESDAY,
            "responded_by_user": {"id": "7", "name": who},
        } if who else {"error": "timeout", "error_type": "timeout"}  # fmt: skip
        return str(again.execute_complete(self.context, event))

    @property
    def who(self) -> list[str]:
        return [user["id"] for user in self.step.assigned_users or ()]

    @property
    def evidence(self) -> Evidence:
        return Evidence.model_validate(self.ti.left[SECOND_PERSON][EVIDENCE_KEY])

    @property
    def decision(self) -> Decision:
        return Decision.model_validate(self.ti.left[SECOND_PERSON][DECISION_KEY])

    def opens(self, *, image: str = PINNED, not_ready: str = "", at: datetime.datetime = WEDNESDAY) -> str:
        """What `Open` has against it."""
        return not_agreed(self.ti, self.plan, self.release.model_copy(update={"image": image}), not_ready, at)


@pytest.fixture
def people(twin):
    found = TwinChannels()
    with standing_in(found.outside(outside())):
        yield found


@pytest.fixture
def run(people, plan, monkeypatch):
    """A run on a Wednesday, outside of the window, of a release that nobody has judged."""
    monkeypatch.setattr(HITLOperator, "execute", lambda self, _context: self.body)
    monkeypatch.setattr(HITLOperator, "generate_link_to_ui_from_context", lambda *_, **__: "LINK")
    monkeypatch.setattr(clock, "utc", lambda: WEDNESDAY)
    known = {"Docker-Content-Digest": digest("v1.1.0")}
    image = plan.image.model_copy(update={"repository": REPOSITORY})

    def begin(starter: str | None = "lead", rules: OverrideRules | None = None, **asked: Any) -> Run:
        changed = plan.model_copy(update={"image": image, "overrides": rules or plan.overrides})
        return Run(changed, starter, OUTSIDE_THE_WINDOW | NOT_READY | asked)

    with ExitStack() as stack:
        web = stack.enter_context(serving(lambda _: Answer(200, {}, known)))
        monkeypatch.setenv("AIRFLOW_CONN_PMS_REGISTRY", json.dumps({"conn_type": "http", "host": web.url}))
        yield begin


def at(monkeypatch: pytest.MonkeyPatch, moment: datetime.datetime) -> None:
    monkeypatch.setattr(clock, "utc", lambda: moment)


def test_a_release_that_overrides_nothing_asks_nobody(run, people):
    one = run(window_override=False, readiness_override_reason="")
    assert one.asked() == "nothing is overridden that takes a second person"
    assert (one.evidence.passed, one.opens(), people.posted) == (True, "", [])


def test_the_page_says_what_is_overridden_by_whom_and_why_and_who_may_agree(run, people):
    one = run()
    body = one.asked()
    assert f"({PINNED}), asked for by lead: a test" in body
    assert "window: closed until Tuesday 2026-12-01 14:00 UTC. lead says: guests cannot check in" in body
    assert "readiness: no readiness was ever recorded" in body and "a \\*security\\* fix" in body
    assert "**Who may answer:** CTO (cto)" in body and f"no answer is *{REFUSE}*" in body
    (letter,) = people.posted
    assert letter.text.startswith("CTO (cto): Overridden") and "closed until Tuesday" in letter.text


@pytest.mark.parametrize(("starter", "may"), [
    ("lead", ["cto"]), ("LEAD", ["cto"]), ("cto", ["lead"]), ("dba", ["lead", "cto"]), (None, ["lead", "cto"]),
])  # fmt: skip
def test_whoever_started_the_run_is_never_the_second_person(run, starter, may):
    one = run(starter)
    one.asked()
    assert one.who == may


NAMES = st.sampled_from(["lead", "Lead", "cto", "CTO", "dba", "Zoë", "STRASSE", "straße"])


@settings(max_examples=60)
@given(
    team=st.tuples(*[st.lists(NAMES, min_size=1, max_size=3, unique=True)] * 2), starter=NAMES, above=st.booleans(),
    shares=st.sampled_from([Asking(), Asking(escalates_at=0.5)]),
)  # fmt: skip
def test_in_no_team_does_anybody_agree_with_himself(plan, team, starter, above, shares):
    lead, cto = (Role(title=title, users=tuple(users)) for title, users in zip("LC", team, strict=True))
    lead = lead.model_copy(update={"escalates_to": "cto" if above else None})
    changed = plan.model_copy(update={"team": {"lead": lead, "cto": cto}, "asking": shares})
    run = SimpleNamespace(triggering_user_name=starter, run_type="manual")
    may = [user["id"].casefold() for user in assigned(with_others(changed, run), "lead")]
    assert starter.casefold() not in may
    asked = {user.casefold() for role in changed.may_answer("lead") for user in role.users}
    assert set(may) == asked - {starter.casefold()}  # and nobody else is left out
    assert bool(nobody_else(changed, run)) == (not may)


def test_who_agrees_is_on_record_and_the_run_goes_on(run):
    one = run()
    one.asked()
    said = one.answered(AGREE, "cto")
    assert said.startswith("Agree by cto: ") and one.evidence.passed
    assert (one.decision.choice, one.decision.who) == (AGREE, "cto") and "window (closed" in one.decision.why
    assert unfounded(one.ti, [SECOND_PERSON]) == []
    assert one.opens(not_ready="no readiness") == ""


@pytest.mark.parametrize(("choice", "who", "said"), [
    (REFUSE, "cto", "Refuse by cto"), (AGREE, None, r"Refuse by nobody \(no answer in 3600 s\)"),
    (AGREE, "lead", "Refuse by lead: answered by lead, who may not"), (AGREE, "qa", "answered by qa, who may not"),
])  # fmt: skip
def test_without_the_second_persons_yes_the_run_ends_and_says_why(run, choice, who, said):
    one = run()
    one.asked()
    with pytest.raises(AirflowFailException, match=f"nothing was touched: .*{said}"):
        one.answered(choice, who)
    assert (one.evidence.passed, one.decision.choice) == (False, REFUSE)
    assert "no second person has agreed to override window" in one.opens()


def test_where_the_plan_names_nobody_else_the_run_ends_at_once(run, plan, people):
    alone = plan.model_copy(update={"asking": Asking()})  # then the role above may not answer
    one = run()
    one.step = SecondPerson(task_id=SECOND_PERSON, plan=alone, release_from="release_due")
    with pytest.raises(AirflowFailException, match="lead has started it, and the plan names nobody else"):
        one.asked()
    assert people.posted == []


def test_a_run_by_hand_of_which_nobody_knows_who_started_it_has_no_second_person(run):
    one = run(None)
    one.context["dag_run"].run_type = "manual"
    with pytest.raises(AirflowFailException, match="nobody knows who has started this run"):
        one.asked()


@pytest.mark.parametrize(("needed", "asked", "moment", "what"), [
    ({"window"}, OUTSIDE_THE_WINDOW | NOT_READY, WEDNESDAY, {"window"}),
    ({"readiness"}, OUTSIDE_THE_WINDOW | NOT_READY, WEDNESDAY, {"readiness"}),
    ({"freeze"}, OUTSIDE_THE_WINDOW | NOT_READY, FROZEN, {"freeze"}),
    ({"freeze"}, OUTSIDE_THE_WINDOW | NOT_READY, WEDNESDAY, set()),
    (set(), OUTSIDE_THE_WINDOW | NOT_READY, FROZEN, set()),
    ({"window", "freeze"}, OUTSIDE_THE_WINDOW, FROZEN, {"window", "freeze"}),
])  # fmt: skip
def test_the_plan_says_which_overrides_take_a_second_person(run, monkeypatch, needed, asked, moment, what):
    at(monkeypatch, moment)
    one = run(rules=OverrideRules(second_person=frozenset(needed)), **asked)
    one.asked()
    found = one.ti.left[SECOND_PERSON].get(ASKED_KEY)
    assert set(found["what"] if found else ()) == what
    if not what:
        assert one.evidence.passed and one.opens(not_ready="x", at=moment) == ""


def test_a_calendar_that_nobody_can_read_is_a_freeze_that_somebody_has_to_agree_to(run, plan):
    one = run()
    broken = plan.freeze.model_copy(update={"calendar": "missing.ics"})
    one.step.plan = one.plan = one.plan.model_copy(update={"freeze": broken})
    assert "freeze: unknown: " in one.asked()


def test_a_readiness_that_is_there_needs_no_override_and_nobody_is_asked_about_it(run, in_cluster, plan):
    known = Readiness(
        version="v1.1.0", digest=digest("v1.1.0"), verdict="pass", at=clock.epoch(), expires=clock.epoch() + 3600,
        run="r", lines=1,
    )  # fmt: skip
    in_cluster(lambda kube: result.hand_over(kube, plan.readiness_name, known))
    one = run(window_override=False)
    assert one.asked() == "nothing is overridden that takes a second person"
    assert "override readiness (it has expired)" in one.opens(not_ready="it has expired")


def test_what_no_override_can_help_is_refused_before_anybody_is_asked(run, people):
    with pytest.raises(AirflowFailException, match="no readiness was ever recorded"):
        run(readiness_override_reason="").asked()
    assert people.posted == []


def test_an_agreement_is_about_one_image(run):
    one = run()
    one.asked()
    one.answered(AGREE, "cto")
    other = f"{REPOSITORY}@{digest('other')}"
    assert one.opens(image=other).startswith(f"what was agreed to is {PINNED}, and by now it is {other}")


def test_a_freeze_that_began_after_the_agreement_is_not_part_of_it(run, monkeypatch):
    one = run()
    one.asked()
    one.answered(AGREE, "cto")
    one.ti.put("open", FENCING_KEY, TOKEN.model_dump(mode="json"))
    one.ti.put("open", RELEASE_KEY, one.release.model_copy(update={"image": PINNED}).model_dump(mode="json"))
    one.ti.task_id = "window_open"
    step = WindowOpen(task_id="window_open", plan=one.plan)
    assert step.execute(one.context) == "overridden: guests cannot check in"
    at(monkeypatch, FROZEN)
    with pytest.raises(AirflowFailException, match=r"override freeze \(Year-end freeze.*nothing was switched"):
        step.execute(one.context)


def test_an_agreement_that_somebody_wrote_himself_is_none(run):
    one = run()
    one.asked()
    forged = Overridden(image=PINNED, what={"window": "", "readiness": ""}).model_dump(mode="json")
    one.ti.xcom_push(AGREED_KEY, forged)
    assert one.opens() == f"{AGREED_KEY} of {SECOND_PERSON} was not made by its step"
    one.ti.xcom_push(ASKED_KEY, forged)
    with pytest.raises(AirflowFailException, match="was not made by its step"):
        one.answered(AGREE, "cto")


def test_nothing_is_believed_that_was_asked_of_another_release(run):
    one = run()
    one.asked()
    one.ti.left["release_due"][RELEASE_KEY]["image"] = "evil.example.com/web:v1.1.0"
    with pytest.raises(AirflowFailException, match="release of release_due was not made by its step"):
        one.asked()


def test_reminders_name_nobody_who_may_not_answer(run, people):
    one = run()
    reminder = Remind(task_id="remind", plan=one.plan, question=one.step)
    others = one.step.asking(one.context)
    planned = calls(others, one.step.asked)
    assert planned and not any(call.escalates for call in planned)  # it was the CTO's turn from the start
    assert any(call.escalates for call in calls(one.plan, one.step.asked))
    assert reminder.asked == one.step.asked


def test_the_lock_is_not_taken_while_nobody_has_agreed(run, in_cluster):
    one = run()
    one.asked()
    with pytest.raises(AirflowFailException):
        one.answered(REFUSE, "cto")
    assert in_cluster(lambda kube: kube.find(lock.LEASES, one.plan.lock_name)) is None
    assert asyncio.run(one.step._overridden(one.release)).image == PINNED
