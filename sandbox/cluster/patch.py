"""JSON merge patch, strategic merge patch and JSON patch. Server-side apply is in apply.py."""

from __future__ import annotations

import copy
from typing import Any

import jsonpatch

from sandbox.cluster.errors import StatusError, bad_request

# Which field tells the items of a list apart, by the list's name. The first one all items have is taken.
# A list not named here is replaced as a whole.
MERGE_KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",), "initContainers": ("name",), "ephemeralContainers": ("name",), "env": ("name",),
    "ports": ("containerPort", "port"), "volumes": ("name",), "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",), "conditions": ("type",), "imagePullSecrets": ("name",),
    "secrets": ("name",), "hostAliases": ("ip",), "ownerReferences": ("uid",), "addresses": ("type",),
    "topologySpreadConstraints": ("topologyKey",),
}  # fmt: skip
PRIMITIVE_SETS = frozenset({"finalizers"})
DIRECTIVES = ("$patch", "$retainKeys", "$setElementOrder/", "$deleteFromPrimitiveList/")


def merge_key(field: str, *lists: list[Any]) -> str | None:
    """The merge key of a list field, given the items it has to tell apart."""
    items = [item for items in lists for item in items]
    for key in MERGE_KEYS.get(field, ()):
        if all(isinstance(item, dict) and (key in item or "$patch" in item) for item in items):
            return key
    return None


def json_patch(current: Any, operations: Any) -> Any:
    try:
        return jsonpatch.apply_patch(current, operations)
    except jsonpatch.InvalidJsonPatch as error:
        raise bad_request(f"invalid JSON patch: {error}") from error
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, TypeError, KeyError) as error:
        message = f"the server rejected our request due to an error in our request: {error}"
        raise StatusError(422, "Invalid", message) from error


def merge_patch(current: Any, change: Any) -> Any:
    """RFC 7386: maps merge, null removes, everything else (lists too) replaces."""
    if not isinstance(change, dict):
        return change
    merged = dict(current) if isinstance(current, dict) else {}
    for field, value in change.items():
        if value is None:
            merged.pop(field, None)
        else:
            merged[field] = merge_patch(merged.get(field), value)
    return merged


def strategic_merge(current: Any, change: Any) -> Any:
    """Like a merge patch, but lists with a merge key merge item by item, steered by `$` directives."""
    if not isinstance(change, dict):
        return change
    directive = change.get("$patch")
    if directive == "delete":
        return {}
    if directive not in (None, "merge", "replace"):
        raise bad_request(f"Unknown patch type: {directive}")
    merged = dict(current) if isinstance(current, dict) and directive != "replace" else {}
    if "$retainKeys" in change:
        merged = {field: value for field, value in merged.items() if field in change["$retainKeys"]}
    for field, value in change.items():
        if field.startswith("$deleteFromPrimitiveList/"):
            target = field.partition("/")[2]
            merged[target] = [item for item in merged.get(target) or [] if item not in value]
        elif field.startswith(DIRECTIVES):
            continue
        elif value is None:
            merged.pop(field, None)
        elif isinstance(value, list):
            merged[field] = _merge_list(field, merged.get(field) or [], value)
        else:
            merged[field] = strategic_merge(merged.get(field), value)
    for field, order in change.items():
        if field.startswith("$setElementOrder/"):
            _reorder(merged, field.partition("/")[2], order)
    return merged


def _merge_list(field: str, current: list[Any], change: list[Any]) -> list[Any]:
    if field in PRIMITIVE_SETS:
        return [*current, *(item for item in change if item not in current)]
    key = merge_key(field, current, change)
    replace = any(isinstance(item, dict) and item.get("$patch") == "replace" for item in change)
    if key is None or replace:
        return [item for item in change if not (isinstance(item, dict) and "$patch" in item)]
    merged = {item[key]: item for item in current}
    for item in change:
        if item.get("$patch") == "delete":
            merged.pop(item.get(key), None)
        elif key in item:
            merged[item[key]] = strategic_merge(merged.get(item[key]), item)
    return list(merged.values())


def _reorder(merged: dict[str, Any], field: str, order: list[Any]) -> None:
    """Put the items in the order the client asks for; those it does not name stay behind, in their order."""
    items = merged.get(field)
    if not isinstance(items, list):
        return
    key = merge_key(field, items)
    wanted = [item.get(key) if isinstance(item, dict) and key else item for item in order]

    def place(item: Any) -> int:
        identity = item.get(key) if isinstance(item, dict) and key else item
        return wanted.index(identity) if identity in wanted else len(wanted)

    merged[field] = sorted(items, key=place)


PATCHES = {
    "application/json-patch+json": json_patch,
    "application/merge-patch+json": merge_patch,
    "application/strategic-merge-patch+json": strategic_merge,
}


def apply_patch(media_type: str, current: dict[str, Any], change: Any) -> dict[str, Any]:
    """The object after the patch; `current` is left alone."""
    if media_type != "application/json-patch+json" and not isinstance(change, dict):
        raise bad_request("a patch must be an object")
    if media_type == "application/json-patch+json" and not isinstance(change, list):
        raise bad_request("a JSON patch must be a list of operations")
    patched = PATCHES[media_type](copy.deepcopy(current), change)
    if not isinstance(patched, dict):
        raise bad_request("the patch leaves no object")
    return patched
