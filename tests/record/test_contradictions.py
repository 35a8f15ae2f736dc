"""What contradicts the record is found whatever it is, and what only repeats it is not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from handover.models.evidence import Verdict
from handover.record.contradictions import contradictions
from tests.record import made

SAID = st.text(max_size=20)
VERDICTS = st.sampled_from(Verdict)


@given(kept=st.tuples(VERDICTS, SAID), said=st.tuples(VERDICTS, SAID), at=st.floats(0, 1e6))
def test_a_check_is_contradicted_by_another_verdict_or_another_known_reason(kept, said, at):
    before = made.check("a.b", kept[0], reason=kept[1])
    now = made.check("a.b", said[0], reason=said[1], at=at)
    found = contradictions([before], [now])
    unknown = kept[0] is said[0] is Verdict.UNKNOWN
    hidden = "***" in kept[1] + said[1]
    assert bool(found) == (kept != said and not unknown) or hidden
    assert contradictions([before], [now]) == found


@given(choice=SAID, who=SAID, why=SAID)
def test_a_decision_is_contradicted_by_any_other_word_of_it(choice, who, why):
    kept = made.decision("a.decide", "Proceed", "lead", why="because")
    said = made.decision("a.decide", choice, who, why=why)
    assert bool(contradictions([kept], [said])) == ((choice, who, why) != ("Proceed", "lead", "because"))


def test_what_is_not_on_record_yet_or_of_another_deployment_contradicts_nothing():
    other = made.check("a.b").of("another", made.RUN, "a.b")
    assert contradictions([other, made.check("a.c")], [made.check("a.b", Verdict.FAIL), *made.samples(2)]) == []
