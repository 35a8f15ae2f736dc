"""No step of a deployment goes on behind what somebody marked by hand, wherever in a phase it stands."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from handover.evidence_seal import VARIABLE, leave
from handover.foundation import BRANCH_KEY, EVIDENCE_KEY, Founded
from handover.models.evidence import failed, passed, unknown
from tests.test_evidence_seal import Ti


class Migrate(Founded):
    """Whatever begins behind two steps."""

    rests_on = ("scan_image", "decide")


@pytest.fixture
def stored():
    """What Airflow keeps of a run in which both have passed."""
    stored = {}
    leave(Ti("scan_image", stored), EVIDENCE_KEY, passed("scan_image", "nothing found").model_dump(mode="json"))
    leave(Ti("decide", stored), BRANCH_KEY, passed("decide", "all passed").model_dump(mode="json"))
    return stored


def begin(stored):
    Migrate().pre_execute({"ti": Ti("execute_migration", stored)})


def refused(stored):
    with pytest.raises(AirflowFailException) as error:
        begin(stored)
    return str(error.value)


def test_behind_steps_that_passed_it_begins(stored):
    begin(stored)


def test_behind_a_step_that_was_marked_successful_nothing_is_done(stored):
    del stored["run-1", "scan_image", EVIDENCE_KEY]
    assert refused(stored) == ("nothing was done: scan_image left no evidence: it was marked by hand, or never ran")


def test_behind_a_branch_that_was_marked_successful_nothing_is_done(stored):
    del stored["run-1", "decide", BRANCH_KEY]
    assert "decide left no evidence" in refused(stored)


@pytest.mark.parametrize("found", [failed("scan_image", "CVE-1"), unknown("scan_image", "no answer")])
def test_a_step_that_did_not_pass_and_was_marked_successful_holds_the_next(stored, found):
    leave(Ti("scan_image", stored), EVIDENCE_KEY, found.model_dump(mode="json"))
    assert f"scan_image: {found.verdict}: {found.reason}" in refused(stored)


def test_evidence_in_the_name_of_a_step_is_no_ground(stored):
    Ti("scan_image", stored).xcom_push(EVIDENCE_KEY, passed("scan_image", "trust me").model_dump(mode="json"))
    assert "evidence of scan_image was not made by its step" in refused(stored)


def test_a_branch_that_went_the_other_way_and_was_cleared_past_is_no_ground(stored):
    leave(Ti("decide", stored), BRANCH_KEY, failed("decide", "health: fail").model_dump(mode="json"))
    assert "decide: fail: health: fail" in refused(stored)


def test_without_a_key_nothing_goes_on(stored, monkeypatch):
    monkeypatch.delenv(VARIABLE)
    assert VARIABLE in refused(stored)


def test_what_nothing_is_asked_of_begins():
    Founded().pre_execute({"ti": None})
