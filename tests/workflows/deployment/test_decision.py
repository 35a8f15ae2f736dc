"""Proceed or roll back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handover.models.evidence import Evidence, Verdict, combined, failed, passed, unknown
from handover.workflows.deployment.decision import decide


def test_all_passed_proceeds_and_says_why():
    decision = decide({"phase.a": passed("a", "200 OK"), "phase.b": passed("b", "lag 0.1 s")})
    assert decision.proceed
    assert decision.reasons == ["a: 200 OK", "b: lag 0.1 s"]


@pytest.mark.plan("All tests passing")
@pytest.mark.parametrize("bad", [failed("b", "503"), unknown("b", "no answer"), None])
def test_anything_but_a_pass_rolls_back(bad):
    decision = decide({"phase.a": passed("a", "fine"), "phase.b": bad})
    assert not decision.proceed
    assert len(decision.reasons) == 1
    assert decision.reasons[0].startswith("b: ")


def test_no_evidence_at_all_is_not_a_pass():
    assert not decide({}).proceed


@pytest.mark.plan("Phase 1: Pre-deployment validation", "Phase 5: Post-deployment testing")
@given(st.dictionaries(st.text(min_size=1), st.one_of(st.none(), st.sampled_from(list(Verdict)))))
def test_it_proceeds_exactly_when_there_is_evidence_and_all_of_it_passed(verdicts):
    evidence = {k: v and Evidence(check=k, verdict=v, reason="r") for k, v in verdicts.items()}
    assert decide(evidence).proceed == (bool(verdicts) and set(verdicts.values()) == {Verdict.PASS})


@given(st.lists(st.sampled_from(list(Verdict))))
def test_the_worst_part_decides_a_combined_verdict(verdicts):
    whole = combined("all", [Evidence(check="x", verdict=v, reason="r") for v in verdicts])
    if Verdict.FAIL in verdicts:
        assert whole.verdict is Verdict.FAIL
    else:
        assert whole.passed == (bool(verdicts) and Verdict.UNKNOWN not in verdicts)
