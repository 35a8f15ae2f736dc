"""Whether the public address answers from a version, with answers as a script says."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handover.coordination.routing import NotReady
from handover.ports.public import Answer
from handover.traffic.reach import ALONE, AMONG_OTHERS, BadAnswers, Reach, Reached

NEW, OLD, UNNAMED = "v1.1.0", "v1.0.0", ""
WANTED = 20


class Script:
    """The public address, answer after answer: a version and a status each; 0 is none."""

    token = ""

    def __init__(self, answers: Iterable[tuple[str, int]]) -> None:
        self._answers = iter(answers)
        self.asked = 0

    async def get(self, path: str, timeout: float) -> Answer:
        self.asked += 1
        await asyncio.sleep(0.005)
        version, status = next(self._answers)
        named = {"x-version": version} if version else {}
        return Answer(0.005, status, named, "" if status else "ConnectionRefusedError: nobody")


def reached(plan, answers, one_in=AMONG_OTHERS, *, timeout=60.0, answered=None, tolerant=False) -> tuple[Reached, int]:
    async def nothing() -> None:
        pass

    script = Script(answers)
    reach = Reach(plan, script, NEW, nothing, tolerant)
    return asyncio.run(reach.until(one_in, timeout, answered)), script.asked


def turns(*answers):
    return itertools.cycle(answers)


@pytest.fixture
def plan(virtual_time, quick_plan):
    return quick_plan


def test_every_other_answer_is_enough_while_both_serve(plan):
    seen, asked = reached(plan, turns((OLD, 200), (NEW, 200)))
    assert (seen.answers, seen.answered, asked) == (WANTED, 200, 2 * WANTED)


def test_after_the_promotion_they_have_to_come_in_a_row(plan):
    _, asked = reached(plan, itertools.chain([(NEW, 200)] * 19, [(OLD, 200)], turns((NEW, 200))), ALONE)
    assert asked == 20 + WANTED
    with pytest.raises(NotReady, match=r"still reach v1\.0\.0"):
        reached(plan, turns((OLD, 200), (NEW, 200)), ALONE)


def test_one_answer_in_seven_is_a_pod_of_many(plan):
    with pytest.raises(NotReady, match="instead of v1"):
        reached(plan, turns(*[(OLD, 200)] * 6, (NEW, 200)))


def test_answers_out_of_a_cache_are_none_of_the_version(plan):
    class Cached(Script):
        async def get(self, path: str, timeout: float) -> Answer:
            answer = await super().get(path, timeout)
            return replace(answer, headers={**answer.headers, "age": "60"})

    async def nothing() -> None:
        pass

    reach = Reach(plan, Cached(turns((NEW, 200))), NEW, nothing)
    with pytest.raises(NotReady, match="a cache has had this answer for 60 s"):
        asyncio.run(reach.until(ALONE, 60.0))


@pytest.mark.parametrize("status", [200, 204, 301])
def test_a_good_answer_is_what_is_one_everywhere(plan, status):
    assert reached(plan, turns((NEW, status)))[0].answers == WANTED


@pytest.mark.parametrize(("version", "status", "says"), [
    (NEW, 500, "status 500"), (UNNAMED, 503, "status 503"), (UNNAMED, 0, "ConnectionRefusedError: nobody"),
    (NEW, 404, "status 404"),
])  # fmt: skip
def test_bad_ones_of_the_version_or_of_nobody_end_it_as_a_breach_would(plan, version, status, says):
    with pytest.raises(BadAnswers, match=f"3 bad answers, the last one: {says}"):
        reached(plan, itertools.chain([(OLD, 200)], turns((version, status))))


def test_what_is_wrong_with_the_request_is_not_the_versions_fault_but_no_good_answer_either(plan):
    with pytest.raises(NotReady, match="status 404: not known to be the release's fault"):
        reached(plan, turns((OLD, 404), (NEW, 404)))


@pytest.mark.parametrize("status", [403, 429])
def test_who_is_asked_too_often_says_nothing_and_is_asked_less(plan, status):
    async def nothing() -> None:
        pass

    script = Script(turns((UNNAMED, status)))
    with pytest.raises(NotReady, match=f"status {status}: the client is refused"):
        asyncio.run(Reach(plan, script, NEW, nothing).until(AMONG_OTHERS, 300.0))
    assert script.asked < 1400


def test_a_bad_stable_version_is_not_held_against_the_new_one(plan):
    assert reached(plan, turns((OLD, 500), (NEW, 200)))[0].answers == WANTED


def test_on_the_way_back_the_bad_version_is_waited_out(plan):
    answers = itertools.chain([(OLD, 500)] * 50, [(UNNAMED, 503)] * 50, turns((NEW, 200)))
    assert reached(plan, answers, tolerant=True)[0].answers == WANTED


def test_answers_without_a_version_are_none_of_it(plan):
    with pytest.raises(NotReady, match="still reach an unnamed version"):
        reached(plan, turns((UNNAMED, 200)))


def test_where_answers_do_not_tell_any_good_one_counts(plan):
    blind = plan.model_copy(update={"traffic": plan.traffic.model_copy(update={"origin": None})})
    assert reached(blind, turns((UNNAMED, 200)), ALONE)[0].answers == WANTED
    with pytest.raises(BadAnswers):
        reached(blind, turns((UNNAMED, 500)), ALONE)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from([NEW, OLD, UNNAMED]), st.sampled_from([0, 200, 204, 404, 429, 500, 503]))))
def test_it_never_says_so_before_enough_good_answers_of_the_version_came(plan, answers):
    """Whatever comes first, and it says so when nothing else comes."""
    first = [*answers]
    try:
        seen, asked = reached(plan, itertools.chain(first, turns((NEW, 200))))
    except BadAnswers:
        assert sum(status in (0, 404, 500, 503) for version, status in first if version != OLD) >= 3
        return
    good = [version == NEW and status in (200, 204) for version, status in first[:asked]]
    good += [True] * (asked - len(good))
    assert sum(good[-4 * WANTED :]) >= WANTED == seen.answers
