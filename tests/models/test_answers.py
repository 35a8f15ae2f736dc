"""One rule for what an answer says about the release."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handover.models.answers import Answered, judged, problem, silence


@pytest.mark.parametrize(("status", "stable", "what"), [
    (200, None, "good"), (204, None, "good"), (301, None, "good"), (304, 200, "good"), (399, None, "good"),
    (500, None, "bad"), (502, 502, "bad"), (503, 503, "bad"), (599, None, "bad"), (0, None, "bad"),
    (429, None, "no data"), (429, 200, "no data"), (403, 200, "no data"), (407, 200, "no data"), (451, 204, "no data"),
    (404, None, "no data"), (404, 404, "no data"), (401, 401, "no data"), (400, 503, "no data"),
    (404, 200, "bad"), (401, 204, "bad"), (410, 301, "bad"), (418, 200, "bad"),
    (100, 200, "no data"), (199, 200, "no data"), (600, 200, "no data"), (999, None, "no data"), (-1, 200, "no data"),
])  # fmt: skip
def test_what_an_answer_says(status, stable, what):
    assert judged(status, stable=stable) == what


@given(st.integers(-10, 1000), st.none() | st.integers(0, 599), st.sampled_from(["", "no answer in time"]))
def test_an_answer_is_good_or_has_a_problem_or_a_reason_why_it_is_no_data(status, stable, why):
    says = {
        Answered.GOOD: judged(status, stable=stable) is Answered.GOOD,
        Answered.BAD: bool(problem(status, why, stable=stable)),
        Answered.NO_DATA: bool(silence(status, stable=stable)),
    }
    assert [kind for kind, so in says.items() if so] == [judged(status, stable=stable)]
