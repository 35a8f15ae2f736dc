"""A question carries everything that its answer rests on, and an answer that comes when it is moot changes nothing."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException

from handover.coordination import lock, state
from handover.evidence_seal import leave
from handover.foundation import EVIDENCE_KEY
from handover.models.deployment import Status
from handover.models.evidence import Evidence, failed, passed
from handover.models.incident import Resolution, Severity, began
from handover.outside import outside, standing_in
from handover.people.details import MAX_KNOWN, MAX_LINE, details
from handover.people.operators import PROCEED, ROLLBACK, Confirm
from handover.ports.kube import KubeError
from handover.step import FENCING_KEY, RELEASE_KEY
from handover.workflows.deployment.deciding import Decide
from handover.workflows.watch.incident_steps import FIX, FixOrRollback
from tests.support.steps import RUN_ID, Opening, release
from tests.twins.channels import TwinChannels
from tests.twins.kube import TwinKube
from tests.twins.world import quick_plan, twin, virtual_time, world  # noqa: F401 - fixtures

ASKED = "phase_4.user_acceptance"


class RunTi:
    """The XComs of a run, by task."""

    map_index, dag_id, try_number, max_tries, task = -1, "pms_deployment", 1, 0, None

    def __init__(self, token, task_id: str = ASKED) -> None:
        self.task_id = task_id
        asked = release("registry.example.com/shop/web@sha256:1")
        opening = Opening(self.dag_id)
        leave(opening, FENCING_KEY, token.model_dump(mode="json"))
        leave(opening, RELEASE_KEY, asked.model_dump(mode="json"))
        self.left: dict[str, dict[str, Any]] = {opening.task_id: opening.pushed}

    def xcom_push(self, key: str, value: Any) -> None:
        self.left.setdefault(self.task_id, {})[key] = value

    def xcom_pull(self, task_ids: str, key: str) -> Any:
        return self.left.get(task_ids, {}).get(key)

    def found(self, task: str, evidence: Evidence) -> None:
        mine, self.task_id = self.task_id, task
        leave(self, EVIDENCE_KEY, evidence.model_dump(mode="json"))
        self.task_id = mine

    @property
    def evidence(self) -> Evidence:
        return Evidence.model_validate(self.left[self.task_id][EVIDENCE_KEY])


@pytest.fixture
def people(world):  # noqa: F811
    found = TwinChannels()
    with standing_in(found.outside(outside())):
        yield found


@pytest.fixture
def ti(world):  # noqa: F811
    return RunTi(world.token)


@pytest.fixture
def acceptance(world, people, monkeypatch):  # noqa: F811
    """With a step before it in its phase, and one in the phase before."""
    monkeypatch.setattr(HITLOperator, "execute", lambda self, _context: self.body)
    monkeypatch.setattr(HITLOperator, "generate_link_to_ui_from_context", lambda *_, **__: "LINK")
    with DAG("shop"):
        question = Confirm(
            task_id=ASKED, plan=world.plan, question=world.plan.acceptance, subject="Does it work?",
            proceeds="it is watched, and stays.",
        )  # fmt: skip
        for name in ("phase_4.performance", "phase_3.migrate"):
            Decide(task_id=name, plan=world.plan, phase="", reads=[], proceed_to="", roll_back="") >> question
    return question


def context(ti: RunTi) -> Any:
    return {"run_id": RUN_ID, "ti": ti}


def answer(choice: str, who: str | None = "qa") -> dict[str, Any]:
    return {
        "chosen_options": [choice], "params_input": {}, "responded_at": datetime.datetime.now(datetime.UTC),
        "responded_by_user": {"id": "7", "name": who} if who else None,
    }  # fmt: skip


def remember(world, **facts) -> None:  # noqa: F811
    def change(old):
        return old.model_copy(update=facts)

    world.run(lambda kube: state.update(kube, world.plan.lock_name, world.token, change))


def rolled_back(world) -> None:  # noqa: F811
    async def take_over(kube):
        generation = await lock.acquire(kube, world.plan.lock_name, "by hand", "rollback: x", take_over=True)
        change = {"generation": generation, "status": Status.ROLLING_BACK}
        await state.update(kube, world.plan.lock_name, world.token, lambda old: old.model_copy(update=change))

    world.run(take_over)


@pytest.mark.parametrize(("facts", "back"), [
    ({"switched_at": 1.0}, "traffic goes back to v1.0.0 on blue at once"),
    ({}, "v1.1.0 is stopped; nothing has moved, v1.0.0 goes on serving."),
])  # fmt: skip
def test_its_page_says_version_role_deadline_evidence_and_consequence(world, people, acceptance, ti, facts, back):  # noqa: F811
    remember(world, **facts)
    ti.found("phase_4.performance", passed("performance", "as fast as before"))
    ti.found("phase_3.migrate", failed("migrate", "of another phase"))
    body = acceptance.execute(context(ti))
    assert f"v1.1.0, after v1.0.0: {RUN_ID}" in body
    assert "**Who may answer:** QA/Monitoring (qa) or Deployment Lead (lead)" in body
    until = datetime.datetime.fromtimestamp(world.time.epoch() + acceptance.asked.seconds, datetime.UTC)
    assert f"{until:%H:%M}" in body and f"no answer is *{ROLLBACK}*" in body
    assert "- performance: pass: as fast as before" in body and "another phase" not in body
    assert f"**{PROCEED}:** it is watched, and stays." in body and f"**{ROLLBACK}:** {back}" in body
    assert all(f"- {item}" in body for item in world.plan.acceptance.items)
    (letter,) = people.posted
    assert "v1.1.0" in str(letter.blocks) and "Answer within" in letter.text


def test_no_answer_looks_like_the_one_to_take(acceptance):
    """Airflow's page colours the default alone, and the others look disabled beside it."""
    assert acceptance.defaults is None


def test_a_role_that_says_nothing_has_given_the_safe_answer(acceptance, ti):
    acceptance.execute_complete(context(ti), {"error": "timeout", "error_type": "timeout"})
    assert not ti.evidence.passed
    assert ti.evidence.reason.startswith("QA/Monitoring: Rollback by nobody (no answer in ")


def test_people_are_asked_with_less_where_the_cluster_is_away(world, people, acceptance, ti, monkeypatch):  # noqa: F811
    monkeypatch.setattr(TwinKube, "get", _away)
    monkeypatch.setattr(TwinKube, "find", _away)
    acceptance.execute(context(ti))
    assert len(people.posted) == 1
    acceptance.execute_complete(context(ti), answer(PROCEED))
    assert ti.evidence.passed


@pytest.mark.parametrize("event", [answer(PROCEED), {"error": "timeout", "error_type": "timeout"}])
def test_an_answer_that_comes_when_the_deployment_is_taken_back_changes_nothing(world, acceptance, ti, event):  # noqa: F811
    rolled_back(world)
    with pytest.raises(AirflowFailException, match=r"withdrawn, so (Proceed by qa|Rollback by nobody)"):
        acceptance.execute_complete(context(ti), event)
    assert not ti.evidence.passed


def test_nobody_is_asked_about_a_deployment_that_is_taken_back(world, people, acceptance, ti):  # noqa: F811
    rolled_back(world)
    with pytest.raises(lock.FencedOut):
        acceptance.execute(context(ti))
    assert people.posted == []


@pytest.fixture
def decide(world, people, monkeypatch):  # noqa: F811
    """The branch behind a phase with one step; gives where it goes."""

    def go(found: Evidence) -> str:
        branch = Decide(
            task_id="phase_4.decide", plan=world.plan, phase="phase_4", reads=["phase_4.x"], proceed_to="phase_5",
            roll_back="phase_4.roll_back",
        )  # fmt: skip
        monkeypatch.setattr(branch, "do_branch", lambda _context, chosen: chosen)
        ti = RunTi(world.token, "phase_4.decide")
        ti.found("phase_4.x", found)
        return branch.execute(context(ti))

    return go


def test_no_phase_proceeds_once_the_deployment_is_taken_back_and_nobody_is_told_that_it_does(world, people, decide):  # noqa: F811
    rolled_back(world)
    assert decide(passed("x", "Proceed by qa")) == "phase_4.roll_back"
    assert people.posted == []


@pytest.mark.parametrize(("facts", "words"), [({}, "STOP, nothing moved"), ({"switched_at": 1.0}, "ROLL BACK")])
def test_a_branch_says_whether_it_stops_or_rolls_back(world, people, decide, facts, words):  # noqa: F811
    remember(world, **facts)
    assert decide(failed("x", "slow")) == "phase_4.roll_back"
    assert f"phase_4: {words}\n" in people.posted[0].text
    assert decide(passed("x", "fast")) == "phase_5"


def test_the_question_about_an_incident_says_what_has_happened(world, people, monkeypatch, ti):  # noqa: F811
    monkeypatch.setattr(HITLOperator, "execute", lambda self, _context: self.body)
    monkeypatch.setattr(HITLOperator, "generate_link_to_ui_from_context", lambda *_, **__: "LINK")
    breach = began("error_rate", "30 % of answers failed", Severity.CRITICAL, 1.0, Resolution.ASKED)
    remember(world, switched_at=1.0, incidents=(breach,))
    body = FixOrRollback(task_id=ASKED, plan=world.plan).execute(context(ti))
    assert "v1.1.0" in body and "error_rate: 30 % of answers failed" in body and "**Who may answer:** Dep" in body
    assert f"**{FIX}:** you have " in body and f"**{ROLLBACK}:** traffic goes back to v1.0.0" in body


def test_long_evidence_is_cut_and_says_so():
    body = details("x", [], 0.0, "No", known=["a\n" * 500] + ["b"] * MAX_KNOWN)
    assert "- and 1 more" in body
    assert max(len(line) for line in body.splitlines()) <= MAX_LINE + 2


async def _away(*_: Any, **__: Any) -> Any:
    raise KubeError(0, "no answer")
