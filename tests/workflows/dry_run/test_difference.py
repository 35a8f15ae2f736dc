"""What people read of two states of an object."""

from __future__ import annotations

from handover.workflows.dry_run.difference import MAX_LINES, differences


def test_every_value_that_differs_is_named_by_its_path():
    before = {
        "spec": {"replicas": 0, "containers": [{"image": "a", "name": "x"}]},
        "metadata": {"labels": {"old": "1"}},
    }
    after = {"spec": {"replicas": 2, "containers": [{"image": "b", "name": "x"}]}, "metadata": {"labels": {"new": "1"}}}
    assert differences(before, after) == [
        "metadata.labels.new: nothing -> 1",
        "metadata.labels.old: 1 -> nothing",
        "spec.containers[0].image: a -> b",
        "spec.replicas: 0 -> 2",
    ]


def test_what_the_server_fills_in_is_no_difference():
    before = {"metadata": {"resourceVersion": "1", "generation": 1}, "status": {"replicas": 1}}
    assert differences(before, {"metadata": {"resourceVersion": "2", "generation": 2}, "status": {}}) == []


def test_a_new_object_is_told_as_far_as_people_read():
    lines = differences(None, {"spec": {f"key{n:02}": n for n in range(MAX_LINES + 3)}})
    assert lines[0] == "spec.key00: nothing -> 0"
    assert (len(lines), lines[-1]) == (MAX_LINES + 1, "and 3 more")


def test_lists_of_another_length_are_told_as_a_whole():
    assert differences({"a": [1]}, {"a": [1, 2]}) == ["a: [1] -> [1, 2]"]
