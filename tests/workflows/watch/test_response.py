"""What a watch does at each moment of a deployment: pure decisions, every one of them."""

from __future__ import annotations

import itertools

import pytest
from pydantic import ValidationError

from handover.analysis import judge
from handover.analysis.observations import Probed
from handover.models.deployment import DeploymentState, FencingToken, Status
from handover.models.evidence import Verdict
from handover.models.incident import Resolution, Severity, began
from handover.models.measures import Phase, Response
from handover.models.names import ERROR_RATE
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.plan.watch import WatchRules
from handover.ports.router import Route, Stage, both, only
from handover.workflows.watch.response import Standing, at_the_end, standing
from handover.workflows.watch.response import response as response_by
from tests.analysis.made import PLAN, counters, seen

TOKEN = FencingToken(deployment="run", generation=7, stable="blue", preview="green")

RULES = load_plan(INCLUDE / "plans" / "pms.yaml").watch


def state(**facts) -> DeploymentState:
    known = {
        "deployment": "run", "generation": 7, "status": Status.DEPLOYING, "version": "v2", "image": "web:v2",
        "previous_version": "v1", "previous_image": "web:v1", "stable": "blue", "preview": "green", "reason": "a test",
        "started_at": 1.0,
    }  # fmt: skip
    return DeploymentState(**(known | facts))


def route(weights, stage=None, generation=7, deployment="run") -> Route:
    return Route("web", weights, generation, stage, deployment, "blue", "green")


@pytest.mark.parametrize(("found", "wanted"), [
    (route(only("blue"), None, 0, ""), Standing.ARMED),
    (route(only("blue"), Stage.FINALISED, 6, "another"), Standing.ARMED),
    (route(only("blue"), Stage.STABLE), Standing.ARMED),
    (route(both("blue", "green"), Stage.OVERLAP), Standing.EXPOSED),
    (route(only("green"), Stage.PROMOTED), Standing.EXPOSED),
    (route(only("green"), Stage.RETIRING), Standing.EXPOSED),
    (route(only("green"), None, 0, ""), Standing.EXPOSED),  # by hand
    (route(only("blue"), Stage.PROMOTED), Standing.LOST),  # by hand
    (route(only("blue"), Stage.ABORTED), Standing.LOST),
    (route(only("green"), Stage.ABORTED), Standing.LOST),
    (route(only("green"), Stage.PROMOTED, 8, "another"), Standing.LOST),
])  # fmt: skip
def test_where_the_version_stands(found, wanted):
    assert standing(found, state(), TOKEN)[0] is wanted


@pytest.mark.parametrize(("facts", "wanted"), [
    ({"status": Status.SUCCEEDED}, Standing.ENDED),
    ({"status": Status.ROLLING_BACK, "generation": 8}, Standing.LOST),
    ({"status": Status.ROLLED_BACK, "generation": 8}, Standing.LOST),
    ({"status": Status.GIVEN_UP}, Standing.LOST),
    ({"deployment": "another", "generation": 8}, Standing.LOST),
    ({"deployment": "another", "generation": 8, "status": Status.SUCCEEDED}, Standing.LOST),
])  # fmt: skip
def test_when_there_is_nothing_left_to_watch(facts, wanted):
    assert standing(route(only("green"), Stage.PROMOTED), state(**facts), TOKEN)[0] is wanted


def incident(severity: Severity, outcome: Resolution):
    return began("cpu", "too much", severity, 1.0, outcome)


def monitored(*incidents) -> DeploymentState:
    """After the decision point."""
    return state(phase=Phase.MONITORING, incidents=incidents)


def response(known: DeploymentState, severity: Severity, rules: WatchRules = RULES) -> Response:
    return response_by(known, severity, rules)


@pytest.mark.parametrize(("phase", "severity"), itertools.product(list(Phase)[:5], Severity))
def test_until_the_decision_point_every_breach_is_rolled_back(phase, severity):
    assert response(state(phase=phase), severity) is Response.ABORT


@pytest.mark.parametrize(("severity", "wanted"), [
    (Severity.CRITICAL, Response.ASK), (Severity.HIGH, Response.NOTE), (Severity.MEDIUM, Response.NOTE),
    (Severity.LOW, Response.NOTE),
])  # fmt: skip
def test_after_it_a_critical_one_is_asked_about_and_the_others_are_noted(severity, wanted):
    assert response(monitored(), severity) is wanted
    assert response(monitored(incident(severity, Resolution.NOTED)), severity) is wanted


def test_when_nobody_is_asked_any_more_a_critical_one_is_rolled_back():
    for known in ((), (incident(Severity.CRITICAL, Resolution.ASKED),)):
        retiring = state(phase=Phase.RETIREMENT, incidents=known)
        assert response(retiring, Severity.CRITICAL) is Response.ABORT
    assert response(state(phase=Phase.RETIREMENT), Severity.HIGH) is Response.NOTE


@pytest.mark.parametrize("severity", Severity)
@pytest.mark.parametrize(("outcome", "wanted"), [
    (Resolution.ASKED, Response.WAIT), (Resolution.ROLLED_BACK, Response.ABORT)
])  # fmt: skip
def test_while_somebody_decides_or_mends_nothing_is_done_and_what_is_given_up_goes_back(severity, outcome, wanted):
    known = monitored(incident(Severity.CRITICAL, Resolution.FIXED), incident(Severity.CRITICAL, outcome))
    assert response(known, severity) is wanted


def test_a_second_critical_one_after_a_fix_is_rolled_back():
    known = monitored(incident(Severity.CRITICAL, Resolution.FIXED))
    assert {one: response(known, one) for one in Severity} == {
        Severity.CRITICAL: Response.ABORT, Severity.HIGH: Response.NOTE, Severity.MEDIUM: Response.NOTE,
        Severity.LOW: Response.NOTE,
    }  # fmt: skip


def test_the_plan_says_what_a_breach_does_by_phase_and_severity():
    rules = RULES.model_copy(update={"on_breach": {
        Phase.MIGRATION: {Severity.CRITICAL: Response.CANCEL_MIGRATION}, Phase.TESTING: {Severity.LOW: Response.NOTE},
        Phase.MONITORING: {Severity.HIGH: Response.ABORT},
    }})  # fmt: skip
    found = {
        (phase, severity): response(state(phase=phase), severity, rules) for phase in Phase for severity in Severity
    }
    usual = {one: response(state(phase=one[0]), one[1]) for one in found}
    assert {one: said for one, said in found.items() if said is not usual[one]} == {
        (Phase.MIGRATION, Severity.CRITICAL): Response.CANCEL_MIGRATION,
        (Phase.TESTING, Severity.LOW): Response.NOTE, (Phase.MONITORING, Severity.HIGH): Response.ABORT,
    }  # fmt: skip


@pytest.mark.parametrize(("phase", "severity", "said", "why"), [
    ("testing", "critical", "ask", "nobody is asked then"), ("retirement", "high", "ask", "nobody is asked then"),
    ("testing", "critical", "cancel_migration", "there is no migration"),
    ("monitoring", "critical", "note", "clients would keep meeting it"),
    ("cutover", "low", "wait", "somebody has to act on it"), ("cutover", "low", "restart", "Input should be"),
    ("lunch", "low", "note", "Input should be"), ("cutover", "awful", "note", "Input should be"),
])  # fmt: skip
def test_what_no_breach_may_do_is_refused_when_the_plan_is_read(phase, severity, said, why):
    with pytest.raises(ValidationError, match=why):
        WatchRules.model_validate(RULES.model_dump() | {"on_breach": {phase: {severity: said}}})


def test_a_step_that_runs_late_does_not_take_the_watch_back_to_its_phase():
    known = state()
    for phase in (Phase.MIGRATION, Phase.VERIFICATION, Phase.MIGRATION):
        known = known.entering(phase)
    assert known.phase is Phase.MIGRATION


def test_there_is_an_answer_to_everything():
    outcomes = list(itertools.product(Resolution, repeat=2))
    for severity, phase, (one, other) in itertools.product(Severity, Phase, outcomes):
        known = (incident(Severity.CRITICAL, one), incident(Severity.CRITICAL, other))
        assert response(state(phase=phase, incidents=known), severity) in Response


@pytest.mark.parametrize(
    ("phase", "severity", "verdict"),
    [
        (Phase.MONITORING, Severity.HIGH, Verdict.PASS),
        (Phase.MONITORING, Severity.LOW, Verdict.PASS),
        (Phase.MONITORING, Severity.CRITICAL, Verdict.UNKNOWN),
        (Phase.CUTOVER, Severity.HIGH, Verdict.UNKNOWN),
        (Phase.CUTOVER, Severity.CRITICAL, Verdict.UNKNOWN),
    ],
)
def test_a_doubt_that_is_found_at_the_end_alone_weighs_as_much_as_its_own_breach_would(phase, severity, verdict):
    """It is judged for what it is: a measure of little weight does not become a missing answer, which is critical."""
    weighs = PLAN.incidents.model_copy(update={"severities": {ERROR_RATE: severity}})
    subject = seen(PLAN.model_copy(update={"incidents": weighs}))
    for now in range(1, 601):
        subject.ready(now, ["a"])
        subject.probe(now, Probed(0.01))
        subject.pod("a", counters(now, now, errors=now * 3 // 600))
    assert judge.breach(subject, 600) is None
    found, reason = at_the_end(*judge.conclude(subject, 600), state(phase=phase), RULES)
    assert found is verdict
    assert reason.removeprefix(f"{severity}, ") == "error_rate: pods: 3 of 599 were bad (limit 0.10%)"


def test_nothing_against_a_release_is_a_pass_without_a_word():
    assert at_the_end(Verdict.PASS, None, state(phase=Phase.MONITORING), RULES) == (Verdict.PASS, "")
