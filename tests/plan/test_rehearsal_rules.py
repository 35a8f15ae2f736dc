"""The section of the plan that says how a release is rehearsed."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from handover.plan.model import Plan
from tests.support.plans import bare, without


def test_a_plan_without_it_rehearses_nothing():
    assert Plan.model_validate(without("rehearsal")).rehearsal is None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (bare() | {"rehearsal": {}}, "rehearsal without migration"),
        (without() | {"rehearsal": {"application_tests": {"smoke": ["true"]}}}, "without settings_secret"),
        (without() | {"rehearsal": {"max_lock_seconds": 0}}, "greater than 0"),
        (without() | {"rehearsal": {"max_lock": 1}}, "Extra inputs"),
    ],
)
def test_a_section_that_cannot_be_is_refused(data, said):
    with pytest.raises(ValidationError, match=said):
        Plan.model_validate(data)
