from __future__ import annotations

import pytest

from handover.database.undo import Action, undo
from handover.models.deployment import MigrationRecord

BOTH = ("a", "b")
RAN = MigrationRecord(started=True, planned=("a", "b"), applied=("a", "b"))
GOOD, BAD = RAN.model_copy(update={"compatible": True}), RAN.model_copy(update={"compatible": False})
CORRUPT = RAN.model_copy(update={"corrupt": True})


@pytest.mark.plan("npx prisma migrate resolve --rolled-back", "Only if data corruption detected")
@pytest.mark.parametrize(
    ("record", "applied", "reversible", "restorable", "action"),
    [
        pytest.param(MigrationRecord(), (), (), True, Action.KEEP, id="nothing ran"),
        pytest.param(MigrationRecord(), ("z",), ("z",), True, Action.KEEP, id="only older migrations"),
        pytest.param(MigrationRecord(started=True, planned=("a",)), (), ("a",), True, Action.KEEP, id="it failed"),
        pytest.param(GOOD, BOTH, (), True, Action.KEEP, id="compatible"),
        pytest.param(BAD, BOTH, BOTH, True, Action.REVERSE, id="not"),
        pytest.param(RAN, BOTH, BOTH, True, Action.REVERSE, id="never asked"),
        pytest.param(RAN, BOTH, ("a",), True, Action.KEEP, id="never asked, no down.sql"),
        pytest.param(BAD, BOTH, ("a",), True, Action.ASK, id="no down.sql"),
        pytest.param(CORRUPT, BOTH, BOTH, True, Action.RESTORE, id="corrupt"),
        pytest.param(
            RAN.model_copy(update={"corrupt": True, "compatible": True}), BOTH, (), True, Action.RESTORE,
            id="corrupt though compatible",
        ),
        pytest.param(CORRUPT, ("a",), ("a",), False, Action.ASK, id="no backup"),
        pytest.param(RAN, (), ("a", "b"), True, Action.KEEP, id="all undone already"),
    ],
)  # fmt: skip
def test_undo(
    record: MigrationRecord, applied: tuple[str, ...], reversible: tuple[str, ...], restorable: bool, action: Action
) -> None:
    assert undo(record, applied, reversible, restorable=restorable).action is action


@pytest.mark.parametrize("record", [RAN, GOOD, CORRUPT])
def test_what_may_have_left_a_part_of_it_is_for_a_person(record: MigrationRecord) -> None:
    choice = undo(record, ("a",), BOTH, restorable=True, unknown=["b"])
    assert choice.action is Action.ASK
    assert choice.why.startswith("b began and did not end")


def test_newest_is_undone_first() -> None:
    assert undo(RAN, ("z", "a", "b"), ("a", "b"), restorable=True).names == ("b", "a")


def test_only_what_is_applied_is_undone() -> None:
    assert undo(RAN, ("a",), ("a", "b"), restorable=True).names == ("a",)


def test_migration_whose_worker_was_killed_is_undone() -> None:
    """It was planned and is applied, and nobody came to remember it."""
    killed = MigrationRecord(started=True, planned=("a",), applied=())
    assert undo(killed, ("a",), ("a",), restorable=True).action is Action.REVERSE


def test_what_may_be_lost_is_said() -> None:
    assert "new version wrote" in undo(RAN, ("a", "b"), ("a", "b"), restorable=True).loses
    assert undo(MigrationRecord(), (), (), restorable=True).loses == ""
