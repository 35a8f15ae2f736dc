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
from sandbox.cluster.patch import merge_key

Path = tuple[str, ...]
Manager = tuple[str, str]  # name, operation (Apply or Update)

_UNTRACKED = {("f:apiVersion",), ("f:kind",), ("f:metadata", "f:name"), ("f:metadata", "f:namespace")}
_SERVER_SET = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink",
               "deletionTimestamp", "deletionGracePeriodSeconds")  # fmt: skip
_MISSING = object()


def leaves(value: Any, path: Path = (), field: str = "") -> dict[Path, Any]:
    """Every leaf below `value` with its path. A list without a merge key is a leaf, as is an empty map."""
    if isinstance(value, dict) and value:
        found: dict[Path, Any] = {}
        for name, item in value.items():
            if path == ("f:metadata",) and name in _SERVER_SET:
                continue
            found |= leaves(item, (*path, f"f:{name}"), name)
        return {where: leaf for where, leaf in found.items() if where not in _UNTRACKED}
    key = merge_key(field, value) if isinstance(value, list) and value else None
    if key is None:
        return {path: value}
    found = {}
    for item in value:
        found |= leaves(item, (*path, _item(key, item[key])))
    return found


def _item(key: str, value: Any) -> str:
    return "k:" + json.dumps({key: value}, separators=(",", ":"))


def managers(obj: dict[str, Any]) -> dict[Manager, set[Path]]:
    """Read `metadata.managedFields`."""
    owned: dict[Manager, set[Path]] = {}
    for entry in obj["metadata"].get("managedFields") or ():
        if entry.get("manager"):
            owned[entry["manager"], entry.get("operation", "Update")] = set(_paths(entry.get("fieldsV1") or {}))
    return owned


def _paths(tree: dict[str, Any], path: Path = ()) -> list[Path]:
    branches = [(name, branch) for name, branch in tree.items() if name != "."]
    if not branches:
        return [path] if path else []
    return [found for name, branch in branches for found in _paths(branch, (*path, name))]


def _write_managers(obj: dict[str, Any], owned: dict[Manager, set[Path]], time: str) -> None:
    entries = []
    for (name, operation), paths in owned.items():
        if not paths:
            continue
        tree: dict[str, Any] = {}
        for path in sorted(paths):
            branch = tree
            for step in path:
                branch = branch.setdefault(step, {})
        entries.append({"manager": name, "operation": operation, "apiVersion": obj["apiVersion"], "time": time,
                        "fieldsType": "FieldsV1", "fieldsV1": tree})  # fmt: skip
    obj["metadata"]["managedFields"] = entries


def track(old: dict[str, Any] | None, new: dict[str, Any], manager: str, time: str = "") -> None:
    """After an ordinary write: its manager owns what it changed, and nobody owns what is gone."""
    before = _without_status(leaves(old)) if old else {}
    after = _without_status(leaves(new))
    changed = {path for path, value in after.items() if before.get(path, _MISSING) != value}
    owned = managers(new)
    for other in owned:
        owned[other] = {path for path in owned[other] - changed if path in after}
    mine = (manager, "Update")
    owned[mine] = owned.get(mine, set()) | changed
    _write_managers(new, owned, time or new["metadata"]["creationTimestamp"])


def _without_status(found: dict[Path, Any]) -> dict[Path, Any]:
    return {path: value for path, value in found.items() if path[0] != "f:status"}


def apply(current: dict[str, Any] | None, wanted: dict[str, Any], manager: str, force: bool) -> dict[str, Any]:
    """The object after `manager` applied `wanted`; 409 when another manager wants a field to be different."""
    if not manager:
        raise bad_request("fieldManager is required for apply patch")
    if (wanted.get("metadata") or {}).get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    mine = (manager, "Apply")
    base = copy.deepcopy(current) if current else {}
    base.setdefault("metadata", {})
    owned, present, asked = managers(base), leaves(base), _without_status(leaves(wanted))
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
    result = _merge(base, wanted)
    still_wanted = _with_parents(path for paths in owned.values() for path in paths)
    unwanted = _with_parents(before) - still_wanted
    for path in unwanted:
        if path[:-1] not in unwanted:  # else it goes with what holds it
            _remove(result, path)
    result.setdefault("apiVersion", wanted.get("apiVersion"))
    _write_managers(result, owned, base["metadata"].get("creationTimestamp", ""))
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


def _merge(current: Any, wanted: Any, field: str = "") -> Any:
    """Like a strategic merge without directives: an apply says what is, so null and order have no meaning."""
    if isinstance(wanted, dict) and isinstance(current, dict):
        merged = dict(current)
        for name, value in wanted.items():
            merged[name] = _merge(merged.get(name), value, name)
        return merged
    if isinstance(wanted, list) and isinstance(current, list):
        key = merge_key(field, current, wanted)
        if key:
            items = {item[key]: item for item in current}
            for item in wanted:
                items[item[key]] = _merge(items.get(item[key]), item)
            return list(items.values())
    return copy.deepcopy(wanted)


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
