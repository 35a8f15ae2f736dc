from __future__ import annotations

import pytest

from sandbox.cluster.errors import StatusError
from sandbox.cluster.kinds import CONFIG_MAP, SECRET
from sandbox.cluster.store import Change, Store


def thing(name: str, **data: str) -> dict:
    return {"metadata": {"name": name, "namespace": "a"}, "data": data}


def test_every_write_and_removal_has_a_higher_version_than_the_one_before() -> None:
    store = Store()
    first = int(store.put(CONFIG_MAP, ("a", "x"), thing("x"))["metadata"]["resourceVersion"])
    second = int(store.put(SECRET, ("a", "x"), thing("x"))["metadata"]["resourceVersion"])
    removed = int(store.remove(CONFIG_MAP, ("a", "x"))["metadata"]["resourceVersion"])
    assert first < second < removed == store.version
    assert store.get(CONFIG_MAP, ("a", "x")) is None


def test_the_history_forgets_and_says_so() -> None:
    store = Store(history=3)
    start = store.version
    for number in range(5):
        store.put(CONFIG_MAP, ("a", "x"), thing("x", v=str(number)))
    with pytest.raises(StatusError) as error:
        store.since(start)
    assert error.value.code == 410
    assert [change.new["data"]["v"] for change in store.since(store.version - 3) if change.new] == ["2", "3", "4"]


def test_a_version_from_the_future_is_not_known_either() -> None:
    store = Store()
    with pytest.raises(StatusError) as error:
        store.since(store.version + 1)
    assert error.value.code == 410


def test_listeners_hear_of_changes_in_order_until_they_stop() -> None:
    store, heard = Store(), list[Change]()
    stop = store.subscribe(heard.append)
    store.put(CONFIG_MAP, ("a", "x"), thing("x"))
    store.remove(CONFIG_MAP, ("a", "x"))
    stop()
    store.put(CONFIG_MAP, ("a", "y"), thing("y"))
    assert [(change.old is None, change.new is None) for change in heard] == [(True, False), (False, True)]


def test_what_a_listener_changes_is_told_after_what_it_heard() -> None:
    store, heard = Store(), list[int]()

    def answer(change: Change) -> None:
        if change.kind is CONFIG_MAP:
            store.put(SECRET, ("a", "x"), thing("x"))

    store.subscribe(answer)
    store.subscribe(lambda change: heard.append(change.version))
    store.put(CONFIG_MAP, ("a", "x"), thing("x"))
    assert heard == sorted(heard)
    assert len(heard) == 2
