"""What is read out of the answers that guests got around a move of traffic."""

from __future__ import annotations

from sandbox.cutover import Answer, Move, judge

SWITCH = Move("switch", "v1", "v2", began=10.0, first_patch=10.5, last_patch=11.5, drained=12.0)
ROLLBACK = Move("rollback", "v2", "v1", began=20.0, first_patch=20.0, last_patch=20.0, drained=20.1)


def answers(*seen: tuple[float, str, bool]) -> list[Answer]:
    return [Answer(*one) for one in seen]


def test_the_last_request_on_the_old_version_is_counted_from_the_last_patch():
    (seen,) = judge([SWITCH], answers((11.4, "v1", True), (11.54, "v1", True), (11.9, "v1", False), (11.6, "v2", True)))
    assert (seen.old_on_new_connections, seen.old_on_any_connection, seen.patches_apart) == (0.04, 0.4, 1.0)
    assert seen.wrong_version_after_drain == 0


def test_an_old_answer_long_after_the_drain_is_wrong():
    (seen,) = judge([SWITCH], answers((12.9, "v1", False), (13.1, "v1", False), (15.0, "v1", True)))
    assert seen.wrong_version_after_drain == 2


def test_each_move_is_judged_until_the_next_one_begins():
    first, second = judge([SWITCH, ROLLBACK], answers((19.9, "v2", True), (20.03, "v2", True), (25.0, "v1", True)))
    assert (first.wrong_version_after_drain, first.old_on_any_connection) == (0, 0.0)
    assert (second.old_on_new_connections, second.wrong_version_after_drain) == (0.03, 0)


def test_a_move_without_an_answer_of_the_old_version_took_no_time():
    (seen,) = judge([ROLLBACK], answers((20.5, "v1", True)))
    assert (seen.old_on_new_connections, seen.old_on_any_connection) == (0.0, 0.0)
