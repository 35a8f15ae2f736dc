"""Server-side apply: who manages which field, so that what a manager no longer applies is removed.

A field is a path of `f:<name>` and, for items of lists with a merge key, `k:{"<key>":"<value>"}`; the same text as
in `metadata.managedFields`, where the paths are kept as a tree. Only leaves are owned; maps exist by their leaves.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from typing import Any

from sandbox.cluster.errors import StatusError, bad_request
from sandbox.cluster.patch import merge_key, strategic_merge

Path = tuple[str, ...]
Manager = tuple[str, str]  # name, operation (Apply or Update)

_META = ("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields",
         "deletionTimestamp", "deletionGracePeriodSeconds")  # fmt: skip
_UNTRACKED = {("f:apiVersion",), ("f:kind",), ("f:status",), *(("f:metadata", f"f:{name}") for name in _META)}
_MISSING = object()


def leaves(value: Any, path: Path = (), field: str = "") -> dict[Path, Any]:
    """Every leaf below `value` with its path. A list without a merge key is a leaf, as is an empty map."""
    if path in _UNTRACKED:
        return {}
    found: dict[Path, Any] = {}
    if isinstance(value, dict) and value:
        for name, item in value.items():
            found |= leaves(item, (*path, f"f:{name}"), name)
        return found
    key = merge_key(field, value) if isinstance(value, list) and value else None
    if key is None:
        return {path: value}
    for item in value:
        found |= leaves(item, (*path, "k:" + json.dumps({key: item[key]}, separators=(",", ":"))))
    return found


def managers(obj: dict[str, Any]) -> dict[Manager, set[Path]]:
    """Read `metadata.managedFields`."""
    return {
        (entry.get("manager", ""), entry.get("operation", "Update")): set(_paths(entry.get("fieldsV1") or {}))
        for entry in obj["metadata"].get("managedFields") or ()
    }


def _paths(tree: dict[str, Any], path: Path = ()) -> list[Path]:
    if not tree:
        return [path] if path else []
    return [found for name, branch in tree.items() for found in _paths(branch, (*path, name))]


def _write_managers(obj: dict[str, Any], owned: dict[Manager, set[Path]]) -> None:
    entries = []
    for (name, operation), paths in owned.items():
        tree: dict[str, Any] = {}
        for path in sorted(paths):
            branch = tree
            for step in path:
                branch = branch.setdefault(step, {})
        if tree:
            entries.append({"manager": name, "operation": operation, "apiVersion": obj["apiVersion"],
                            "fieldsType": "FieldsV1", "fieldsV1": tree})  # fmt: skip
    obj["metadata"].pop("managedFields", None)
    if entries:
        obj["metadata"]["managedFields"] = entries


def track(old: dict[str, Any] | None, new: dict[str, Any], manager: str) -> None:
    """After an ordinary write: its manager owns what it changed, and nobody owns what is gone."""
    before, after = leaves(old) if old else {}, leaves(new)
    changed = {path for path, value in after.items() if before.get(path, _MISSING) != value}
    owned = {one: (paths - changed) & after.keys() for one, paths in managers(new).items()}
    mine = (manager, "Update")
    owned[mine] = owned.get(mine, set()) | changed
    _write_managers(new, owned)


def apply(current: dict[str, Any] | None, wanted: dict[str, Any], manager: str, force: bool) -> dict[str, Any]:
    """The object after `manager` applied `wanted`; 409 when another manager wants a field to be different."""
    if not manager:
        raise bad_request("fieldManager is required for apply patch")
    if (wanted.get("metadata") or {}).get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    mine = (manager, "Apply")
    base: dict[str, Any] = {"metadata": {}, **copy.deepcopy(current or {})}
    owned, present, asked = managers(base), leaves(base), leaves(wanted)
    contested = {
        (other, path)
        for other, paths in owned.items()
        for path in paths & asked.keys()
        if other != mine and present.get(path, _MISSING) != asked[path]
    }
    if contested and not force:
        raise _contest(contested)
    for other, path in contested:
        owned[other].discard(path)
    before = owned.get(mine, set())
    owned[mine] = set(asked)
    result: dict[str, Any] = strategic_merge(base, copy.deepcopy(wanted))
    unwanted = _with_parents(before) - _with_parents(path for paths in owned.values() for path in paths)
    for path in unwanted:
        if path[:-1] not in unwanted:  # else it goes with what holds it
            _remove(result, path)
    _write_managers(result, owned)
    return result


def _contest(contested: set[tuple[Manager, Path]]) -> StatusError:
    causes = [
        {"reason": "FieldManagerConflict", "message": f'conflict with "{other[0]}"', "field": _dotted(path)}
        for other, path in sorted(contested)
    ]
    listed = "; ".join(f"{cause['message']}: {cause['field']}" for cause in causes)
    message = f"Apply failed with {len(causes)} conflict{'s' * (len(causes) > 1)}: {listed}"
    return StatusError(409, "Conflict", message, {"causes": causes})


def _dotted(path: Path) -> str:
    return "".join(f".{step[2:]}" if step.startswith("f:") else f"[{step[2:]}]" for step in path)


def _with_parents(paths: Iterable[Path]) -> set[Path]:
    """Also the maps and list items on the way: once nobody wants anything in them, they go with their defaults."""
    return {path[:length] for path in paths for length in range(1, len(path) + 1)}


def _remove(value: Any, path: Path) -> None:
    """Take out what is at `path`, if it is still there."""
    for step in path[:-1]:
        value = _child(value, step)
    last = path[-1]
    if last.startswith("f:") and isinstance(value, dict):
        value.pop(last[2:], None)
    elif isinstance(value, list) and (item := _child(value, last)) is not None:
        value.remove(item)


def _child(value: Any, step: str) -> Any:
    if step.startswith("f:"):
        return value.get(step[2:]) if isinstance(value, dict) else None
    wanted = json.loads(step[2:]).items()
    return next((item for item in value or () if isinstance(item, dict) and wanted <= item.items()), None)
