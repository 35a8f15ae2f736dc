"""What somebody asked to deploy, checked before anything is touched. Pure functions."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from handover.models.deployment import Release
from handover.models.image_reference import BadImage, ImageReference
from handover.plan import freeze, window

if TYPE_CHECKING:
    from handover.plan.model import Plan

VERSION = r"^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$"
"""What the form accepts: a semantic version with a leading v, as in the tag of the image, so without build metadata."""
MIN_REASON = 5


class BadRequest(ValueError):
    """The request cannot be carried out; the text lists everything that is wrong and what to do."""


def release_of(plan: Plan, asked: Mapping[str, Any], now: datetime.datetime | None) -> Release:
    """The release that the parameters ask for. Raises `BadRequest` with every fault at once.

    :param now: when it is to be deployed; None when it is only judged, which may be done at any time
    """
    version = (asked.get("version") or "").strip()
    methods = plan.migration.methods if plan.migration else ("none",)
    method = asked.get("method") or methods[0]
    faulty = _version_faults(version)
    image = (asked.get("image") or "").strip() or ("" if faulty else plan.image.of(version))
    override = bool(asked.get("window_override"))
    override_reason = (asked.get("window_override_reason") or "").strip()
    readiness_reason = (asked.get("readiness_override_reason") or "").strip()
    reason = (asked.get("reason") or "").strip()
    faults = [
        *faulty,
        *(_image_faults(plan, image) if image else []),
        *_method_faults(method, methods),
        *([] if len(reason) >= MIN_REASON else ["reason: say in a few words why this release is deployed"]),
        *_readiness_faults(readiness_reason),
        *(_window_faults(plan, override, override_reason, now) if now else []),
    ]
    if faults:
        raise BadRequest("nothing was touched, because of:\n- " + "\n- ".join(faults))
    return Release(
        version=version, image=image, method=method, banner=asked.get("banner") in (None, True),
        reason=reason, window_override=override, window_override_reason=override_reason if override else "",
        readiness_override_reason=readiness_reason,
    )  # fmt: skip


def _version_faults(version: str) -> list[str]:
    from semver import Version

    if re.match(VERSION, version) and Version.is_valid(version[1:]):
        return []
    return [f"version: {version or 'nothing'!r} is not a semantic version; write it as v1.2.3"]


def _method_faults(method: str, methods: Sequence[str]) -> list[str]:
    return (
        [] if method in methods else [f"method: {method!r} is not a way of this plan; there are {', '.join(methods)}"]
    )


def _image_faults(plan: Plan, image: str) -> list[str]:
    try:
        named, trusted = ImageReference.parse(image), ImageReference.parse(plan.image.repository)
    except BadImage as wrong:
        return [f"image: {wrong}"]
    if not named.is_from(trusted):
        return [f"image: {image!r} is not from {trusted}, the only repository that this plan trusts"]
    return [] if named.tag or named.pinned else [f"image: {image!r} has neither a tag nor a sha256 digest"]


def _readiness_faults(reason: str) -> list[str]:
    missing = "readiness_override_reason: say in a few words why it may go out without readiness; it is recorded"
    return [missing] if reason and len(reason) < MIN_REASON else []


def _window_faults(plan: Plan, override: bool, reason: str, now: datetime.datetime) -> list[str]:
    if override:
        missing = "window_override_reason: an override of window or freeze needs a reason; it is recorded"
        return [] if len(reason) >= MIN_REASON else [missing]
    return [*_freeze_faults(plan, now), *_closed_faults(plan, now)]


def _freeze_faults(plan: Plan, now: datetime.datetime) -> list[str]:
    try:
        why = freeze.frozen(plan.freeze, plan.window.timezone, now)
    except freeze.BrokenCalendar as error:
        return [f"freeze: unknown: {error}; repair the calendar, or set window_override with a reason"]
    return [f"freeze: {why}; wait, or set window_override with a reason"] if why else []


def _closed_faults(plan: Plan, now: datetime.datetime) -> list[str]:
    if not window.may_start(plan.window, now):
        opens = window.opening(plan.window, now)
        return [
            f"window: traffic may move from {opens:%A %Y-%m-%d %H:%M %Z} on; start at most "
            f"{plan.window.prepare_seconds / 3600:g} h before, or set window_override with a reason"
        ]
    return []
