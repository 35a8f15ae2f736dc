from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handover.database.lag import LagSample, LagTrouble, LsnHistory, Primary, Replica, Sustained, judge

GOOD = {"pause_state": "not paused", "receiver": "streaming"}
CLUSTER = 7_713_684_528_246_707_423


def primary(lsn: int = 100, streaming: int = 1, inactive_slots: int = 0, cluster: int | None = CLUSTER) -> Primary:
    return Primary(lsn, streaming, inactive_slots, connections=3, blocked=0, cluster=cluster)


def replica(replayed: int = 100, streaming: int = 0, cluster: int | None = CLUSTER, **changes: str) -> Replica:
    return Replica(replayed, streaming=streaming, cluster=cluster, **{**GOOD, **changes})


def written(seconds: float, *, every: float = 0.1) -> LsnHistory:
    """A primary that writes one byte every ``every`` seconds from time 0 on, beginning at LSN 0."""
    history = LsnHistory()
    for number in range(int(seconds / every) + 1):
        history.add(number * every, number)
    return history


def test_idle_primary_has_no_lag_however_long_ago_it_wrote() -> None:
    history = LsnHistory()
    for at in range(100):
        history.add(at, 100)
    sample = judge(history, 100, primary(), {"r": replica()})
    assert sample.seconds == 0
    assert sample.within(2)


def test_paused_replay_lags_since_the_first_thing_it_lacks() -> None:
    sample = judge(written(10), 10, primary(), {"r": replica(replayed=20, pause_state="paused")})
    assert sample.seconds == pytest.approx(7.9)
    assert sample.problems == ("r: its replay is paused",)


def test_cut_receiver_lags_though_it_replayed_all_it_received() -> None:
    sample = judge(written(10), 10, primary(streaming=0), {"r": replica(replayed=20, receiver="gone")})
    assert sample.seconds == pytest.approx(7.9)
    assert sample.problems == (
        "r: its receiver is gone",
        "only 0 of 1 replicas are streamed to: name those that others follow, too",
    )


@pytest.mark.plan("Database replication failure")
def test_dead_replica_lags_infinitely() -> None:
    sample = judge(written(10), 10, primary(), {"r": None})
    assert math.isinf(sample.seconds)
    assert sample.problems == ("r cannot be asked",)


def test_primary_that_cannot_be_asked() -> None:
    sample = judge(written(10), 10, None, {"r": replica()})
    assert math.isinf(sample.seconds)
    assert not sample.within(1e9)


def test_worst_replica_counts() -> None:
    sample = judge(written(10), 10, primary(streaming=2), {"a": replica(replayed=100), "b": replica(replayed=80)})
    assert sample.seconds == pytest.approx(1.9)


def test_inactive_slot_is_a_problem() -> None:
    assert not judge(written(10), 10, primary(inactive_slots=1), {"r": replica()}).within(2)


def test_idle_replica_with_a_cut_receiver_is_a_problem_without_lag() -> None:
    sample = judge(written(10), 10, primary(), {"r": replica(receiver="gone")})
    assert sample.seconds == 0
    assert not sample.within(2)


@pytest.mark.parametrize("seconds", [0.1, 300])
def test_a_replica_behind_our_first_look_lags_at_least_since_that_and_is_not_well(seconds: float) -> None:
    """The history begins when we begin to look: what the replica lacks may be older, or is no older than a moment
    where somebody writes all the time.
    """
    history = LsnHistory()
    history.add(0, 1000)
    found = judge(history, seconds, primary(), {"r": replica(replayed=10)})
    assert found.seconds == seconds
    assert found.problems == ("how far r is behind is not known yet: it is at what was written before our first look",)
    assert not found.within(1e9)


def test_first_looks_beside_one_long_transaction_tell_no_lag_of_seconds() -> None:
    """Nobody has committed for long, and the replica is a tenth of a second behind."""
    history, trouble, told = LsnHistory(), LagTrouble(0), list[tuple[float, bool]]()
    for number in range(5):
        now = number / 10
        history.add(now, 1000 + 100 * number)
        found = judge(history, now, primary(), {"r": replica(replayed=900 + 100 * number)})
        told.append((trouble.seconds(found, now), found.within(2)))
    assert told == [(0, False), *[(pytest.approx(0.0), True)] * 4]


def test_a_cascade_is_healthy() -> None:
    looks = {"r": replica(streaming=1), "c": replica()}
    assert judge(written(10), 10, primary(streaming=1), looks).within(2)
    cut = {"r": replica(streaming=0), "c": replica(receiver="gone")}
    assert judge(written(10), 10, primary(streaming=1), cut).problems == (
        "c: its receiver is gone", "only 1 of 2 replicas are streamed to: name those that others follow, too",
    )  # fmt: skip


def test_a_replica_of_another_cluster_is_none_of_ours() -> None:
    found = judge(written(10), 10, primary(), {"r": replica(cluster=1)})
    assert (found.problems, found.seconds) == (("r is a replica of another cluster",), math.inf)


@pytest.mark.parametrize(("ours", "its"), [(None, 1), (1, None), (None, None)])
def test_a_replica_that_nobody_may_ask_for_its_cluster_is_not_taken_for_ours(ours: int | None, its: int | None) -> None:
    found = judge(written(10), 10, primary(cluster=ours), {"r": replica(cluster=its)})
    assert found.problems == (
        "whether r is of the primary's cluster is not known: both roles have to be let call pg_control_system()",
    )


def test_replica_ahead_of_our_last_look_at_the_primary_has_no_lag() -> None:
    assert judge(written(10), 10, primary(), {"r": replica(replayed=101)}).seconds == 0


def test_other_primary_begins_a_new_history() -> None:
    history = written(10)
    history.add(11, 5)
    assert history.behind(5, 12) == 0
    assert not history.covers(4)


def test_history_does_not_grow_for_ever() -> None:
    history = LsnHistory(kept=100)
    for number in range(1000):
        history.add(number, number)
    assert not history.covers(800)
    assert history.covers(990)
    assert history.behind(990, 999) == 8


@given(st.lists(st.tuples(st.floats(0.01, 5), st.integers(0, 50)), min_size=1, max_size=60), st.integers(0, 2000))
def test_lag_is_the_age_of_the_first_thing_that_is_lacking(steps: list[tuple[float, int]], replayed: int) -> None:
    history, at, lsn, seen = LsnHistory(), 0.0, 0, list[tuple[float, int]]()
    for pause, more in steps:
        at, lsn = at + pause, lsn + more
        history.add(at, lsn)
        seen.append((at, lsn))
    lacking = [t for t, where in seen if where > replayed]
    assert history.behind(replayed, at) == (at - lacking[0] if lacking else 0)


def sample(seconds: float, *problems: str) -> LagSample:
    return LagSample(seconds, problems, primary())


def test_lag_must_be_low_for_a_whole_second() -> None:
    watched = Sustained(2, 1)
    looks = [(0, 0.0), (1, 0.9), (3, 0.95), (0, 1.0), (0, 1.9), (0, 2.0)]
    assert [watched.reached(sample(lag), at) for lag, at in looks] == [False] * 5 + [True]


def test_problem_without_lag_is_never_low_enough() -> None:
    watched = Sustained(2, 1)
    assert not any(watched.reached(sample(0, "cut"), float(at)) for at in range(10))


def test_lag_that_cannot_be_known_lasts_as_long_as_the_trouble() -> None:
    trouble = LagTrouble(0)
    assert trouble.seconds(sample(0.1), 1) == 0.1
    assert trouble.seconds(sample(math.inf, "dead"), 4) == 3
    assert trouble.seconds(sample(0, "cut"), 6) == 5
    assert trouble.seconds(sample(9, "paused"), 7) == 9
    assert trouble.seconds(sample(0.2), 8) == 0.2
    assert trouble.seconds(sample(math.inf, "dead"), 9) == 1


def test_text_tells_lag_and_problems() -> None:
    assert sample(math.inf, "r cannot be asked").text == "lag infinite; r cannot be asked"
    assert sample(0.123).text == "lag 0.12 s"
