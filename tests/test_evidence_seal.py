"""Only a step makes evidence: what anybody else writes in its name, or takes from another place, is not believed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handover.evidence_seal import SEAL, VARIABLE, NotSealed, key_problem, leave, left
from handover.foundation import EVIDENCE_KEY, believed
from handover.models.evidence import Verdict, passed
from handover.workflows.deployment.decision import decide

OLD, NEW = "an old key of at least 32 characters", "a new key that has 32 characters and more"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


class Ti:
    """One task of one run; ``stored`` is what Airflow keeps of the run, and anybody may write."""

    dag_id, map_index = "shop_deployment", -1

    def __init__(self, task_id: str, stored: dict[tuple[str, str, str], str], run_id: str = "run-1") -> None:
        self.task_id, self.stored, self.run_id = task_id, stored, run_id

    def xcom_push(self, key, value):
        self.stored[self.run_id, self.task_id, key] = json.dumps(value)

    def xcom_pull(self, task_ids, key):
        return json.loads(self.stored.get((self.run_id, task_ids, key), "null"))


@pytest.fixture
def scan():
    return Ti("scan_image", {})


@pytest.fixture
def branch(scan):
    return Ti("decide", scan.stored)


def evidence():
    return passed("scan_image", "nothing found").model_dump(mode="json")


def test_what_a_step_left_is_believed(scan, branch):
    leave(scan, EVIDENCE_KEY, evidence())
    assert decide({"scan_image": believed(branch, "scan_image")}).proceed


@pytest.mark.parametrize("seal", [None, "", "0" * 64, "\u00e9", ["list"]])
def test_evidence_that_a_user_wrote_is_no_pass_and_is_said_by_name(scan, branch, seal):
    scan.xcom_push(EVIDENCE_KEY, evidence())
    scan.xcom_push(EVIDENCE_KEY + SEAL, seal)
    found = believed(branch, "scan_image")
    assert found is not None and found.verdict is Verdict.UNKNOWN
    assert found.reason == "evidence of scan_image was not made by its step"
    assert not decide({"scan_image": found}).proceed


def test_a_fail_that_is_turned_into_a_pass_is_noticed(scan, branch):
    leave(scan, EVIDENCE_KEY, {**evidence(), "verdict": "fail"})
    scan.xcom_push(EVIDENCE_KEY, evidence())
    with pytest.raises(NotSealed):
        left(branch, "scan_image", EVIDENCE_KEY)


def test_evidence_of_another_task_or_run_or_kind_is_not_believed(scan, branch):
    leave(scan, EVIDENCE_KEY, evidence())
    for run, task, key in (("run-1", "other", EVIDENCE_KEY), ("run-2", "scan_image", EVIDENCE_KEY),
                           ("run-1", "scan_image", "release")):  # fmt: skip
        for ending in ("", SEAL):
            scan.stored[run, task, key + ending] = scan.stored["run-1", "scan_image", EVIDENCE_KEY + ending]
        with pytest.raises(NotSealed):
            left(Ti("decide", scan.stored, run), task, key)


def test_a_task_that_was_marked_by_hand_has_nobelieved(branch):
    assert believed(branch, "scan_image") is None


def test_a_key_is_replaced_while_a_deployment_is_under_way(scan, branch, monkeypatch):
    monkeypatch.setenv(VARIABLE, OLD)
    leave(scan, EVIDENCE_KEY, evidence())
    monkeypatch.setenv(VARIABLE, f"{NEW}, {OLD}")
    assert left(branch, "scan_image", EVIDENCE_KEY)
    monkeypatch.setenv(VARIABLE, NEW)
    with pytest.raises(NotSealed):
        left(branch, "scan_image", EVIDENCE_KEY)


@pytest.mark.parametrize("key", ["", "short", ",", "short,also short"])
def test_without_a_key_steps_go_on_and_nothing_is_believed(scan, branch, monkeypatch, key):
    monkeypatch.setenv(VARIABLE, key)
    leave(scan, EVIDENCE_KEY, evidence())
    assert VARIABLE in key_problem()
    with pytest.raises(NotSealed, match=VARIABLE):
        left(branch, "scan_image", EVIDENCE_KEY)


def _as_postgresql_has_it(value):
    """JSONB keeps numbers without exponents, and no order of keys."""
    if isinstance(value, dict):
        return {key: _as_postgresql_has_it(value[key]) for key in reversed(value)}
    if isinstance(value, list):
        return [_as_postgresql_has_it(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@given(VALUES.filter(lambda value: value is not None))
def test_a_seal_holds_for_whatever_a_database_gives_back(value):
    stored: dict[tuple[str, str, str], str] = {}
    leave(Ti("a", stored), "x", value)
    stored["run-1", "a", "x"] = json.dumps(_as_postgresql_has_it(value))
    assert left(Ti("b", stored), "a", "x") == value
