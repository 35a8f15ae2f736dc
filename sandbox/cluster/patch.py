"""JSON merge patch, strategic merge patch and JSON patch. Server-side apply is in apply.py."""

from __future__ import annotations

import copy
from typing import Any

import jsonpatch

from sandbox.cluster.errors import StatusError, bad_request

# Which field tells the items of a list apart, by the list's name. The first one all items have is taken.
# A list not named here is replaced as a whole.
MERGE_KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",), "env": ("name",), "ports": ("containerPort", "port"), "volumes": ("name",),
    "volumeMounts": ("mountPath",), "conditions": ("type",), "imagePullSecrets": ("name",), "ownerReferences": ("uid",),
}  # fmt: skip


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
    if directive not in (None, "merge", "replace", "delete"):
        raise bad_request(f"Unknown patch type: {directive}")
    merged = dict(current) if isinstance(current, dict) and directive in (None, "merge") else {}
    if "$retainKeys" in change:
        merged = {field: value for field, value in merged.items() if field in change["$retainKeys"]}
    for field, value in change.items():
        if field.startswith("$"):
            continue
        if value is None:
            merged.pop(field, None)
        elif isinstance(value, list):
            merged[field] = _merge_list(field, merged.get(field) or [], value)
        else:
            merged[field] = strategic_merge(merged.get(field), value)
    for field, order in change.items():
        name = field.removeprefix("$setElementOrder/")
        if name != field and isinstance(merged.get(name), list):
            merged[name] = _ordered(merged[name], merge_key(name, merged[name]), order)
    return merged


def _merge_list(field: str, current: list[Any], change: list[Any]) -> list[Any]:
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


def _ordered(items: list[Any], key: str | None, order: list[Any]) -> list[Any]:
    """In the order the client asks for; the items it does not name stay behind, in their order."""

    def identity(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    places = [identity(item) for item in order]
    return sorted(items, key=lambda item: places.index(identity(item)) if identity(item) in places else len(places))


PATCHES = {
    "application/json-patch+json": (list, json_patch),
    "application/merge-patch+json": (dict, merge_patch),
    "application/strategic-merge-patch+json": (dict, strategic_merge),
}


def apply_patch(media_type: str, current: dict[str, Any], change: Any) -> dict[str, Any]:
    """The object after the patch; `current` is left alone."""
    shape, patch = PATCHES[media_type]
    if not isinstance(change, shape):
        raise bad_request(f"a patch of type {media_type} must be a {shape.__name__}")
    patched = patch(copy.deepcopy(current), change)
    if not isinstance(patched, dict):
        raise bad_request("the patch leaves no object")
    return patched
