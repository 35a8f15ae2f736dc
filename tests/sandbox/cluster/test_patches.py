from __future__ import annotations

from typing import Any

import pytest

from sandbox.cluster.apply import apply, managers, track
from sandbox.cluster.errors import StatusError
from sandbox.cluster.patch import apply_patch

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON = "application/json-patch+json"


def test_a_merge_patch_merges_maps_replaces_lists_and_removes_by_null() -> None:
    before = {"a": {"b": 1, "c": 2}, "list": [1, 2]}
    assert apply_patch(MERGE, before, {"a": {"b": None, "d": {"e": None}}, "list": [3]}) == {
        "a": {"c": 2, "d": {}},
        "list": [3],
    }
    assert before == {"a": {"b": 1, "c": 2}, "list": [1, 2]}


def test_a_strategic_patch_changes_one_container_and_one_variable() -> None:
    before = {
        "containers": [
            {"name": "a", "image": "one", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]},
            {"name": "b", "image": "two"},
        ]
    }
    change = {"containers": [{"name": "a", "image": "new", "env": [{"name": "Y", "value": "3"}]}]}
    assert apply_patch(STRATEGIC, before, change) == {
        "containers": [
            {"name": "a", "image": "new", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "3"}]},
            {"name": "b", "image": "two"},
        ]
    }


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        ({"volumes": [{"name": "a"}, {"name": "b"}]}, {"volumes": [{"name": "a", "$patch": "delete"}]},
         {"volumes": [{"name": "b"}]}),
        ({"strategy": {"type": "RollingUpdate", "rollingUpdate": {}}},
         {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}, {"strategy": {"type": "Recreate"}}),
        ({"labels": {"a": "1"}}, {"labels": {"$patch": "replace", "b": "2"}}, {"labels": {"b": "2"}}),
        ({"args": ["a", "b"]}, {"args": ["c"]}, {"args": ["c"]}),
        ({"env": [{"name": "A"}, {"name": "B"}]},
         {"$setElementOrder/env": [{"name": "B"}, {"name": "A"}], "env": [{"name": "A", "value": "1"}]},
         {"env": [{"name": "B"}, {"name": "A", "value": "1"}]}),
        ({"ports": [{"port": 80, "targetPort": 1}]}, {"ports": [{"port": 80, "targetPort": 2}]},
         {"ports": [{"port": 80, "targetPort": 2}]}),
        ({"volumes": [{"name": "a"}]}, {"volumes": [{"$patch": "replace"}, {"name": "b"}]},
         {"volumes": [{"name": "b"}]}),
    ],
)  # fmt: skip
def test_strategic_directives(before: Any, change: Any, after: Any) -> None:
    assert apply_patch(STRATEGIC, before, change) == after


def test_a_json_patch_can_test_before_it_changes() -> None:
    change = [{"op": "test", "path": "/a", "value": 1}, {"op": "replace", "path": "/a", "value": 2}]
    assert apply_patch(JSON, {"a": 1}, change) == {"a": 2}
    with pytest.raises(StatusError) as error:
        apply_patch(JSON, {"a": 3}, change)
    assert error.value.code == 422


@pytest.mark.parametrize(
    ("media", "change", "code"),
    [(JSON, {"op": "add"}, 400), (MERGE, [1], 400), (STRATEGIC, "x", 400), (JSON, [{"op": "fly", "path": "/"}], 400),
     (JSON, [{"op": "remove", "path": "/missing"}], 422), (STRATEGIC, {"a": {"$patch": "odd"}}, 400)],
)  # fmt: skip
def test_patches_that_make_no_sense_are_refused(media: str, change: Any, code: int) -> None:
    with pytest.raises(StatusError) as error:
        apply_patch(media, {"a": {}}, change)
    assert error.value.code == code


# --- server-side apply


def config(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": data}


def test_what_a_manager_stops_applying_is_removed() -> None:
    first = apply(None, config(a="1", b="2"), "me", force=False)
    assert apply(first, config(a="1"), "me", force=False)["data"] == {"a": "1"}


def test_what_somebody_else_applies_too_stays() -> None:
    first = apply(None, config(a="1", b="2"), "me", force=False)
    second = apply(first, config(b="2"), "other", force=False)
    assert apply(second, config(a="1"), "me", force=False)["data"] == {"a": "1", "b": "2"}


def test_two_managers_that_want_different_values_are_in_conflict_until_one_forces() -> None:
    first = apply(None, config(a="1"), "me", force=False)
    with pytest.raises(StatusError, match=r'conflict with "me": \.data\.a') as error:
        apply(first, config(a="2"), "other", force=False)
    assert (error.value.code, error.value.reason) == (409, "Conflict")
    forced = apply(first, config(a="2"), "other", force=True)
    assert forced["data"] == {"a": "2"}
    assert ("me", "Apply") not in managers(forced)


def test_an_ordinary_update_takes_over_what_it_changes() -> None:
    applied = apply(None, config(a="1", b="2"), "me", force=False)
    updated = {**applied, "metadata": {**applied["metadata"], "creationTimestamp": "now"}, "data": {"a": "9", "b": "2"}}
    track(applied, updated, "editor")
    owned = managers(updated)
    assert owned["editor", "Update"] == {("f:data", "f:a")}
    assert owned["me", "Apply"] == {("f:data", "f:b")}
    with pytest.raises(StatusError):
        apply(updated, config(a="1"), "me", force=False)


def test_an_item_of_a_list_goes_with_its_defaults() -> None:
    def pod(*names: str) -> dict[str, Any]:
        containers = [{"name": name, "image": "i"} for name in names]
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": containers}}

    first = apply(None, pod("a", "b"), "me", force=False)
    for container in first["spec"]["containers"]:
        container["imagePullPolicy"] = "Always"
    assert apply(first, pod("b"), "me", force=False)["spec"]["containers"] == [
        {"name": "b", "image": "i", "imagePullPolicy": "Always"}
    ]
