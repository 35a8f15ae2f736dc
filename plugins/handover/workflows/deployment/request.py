"""What somebody asked to deploy, checked before anything is touched. Pure functions."""

from __future__ import annotations

import datetime
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from handover.models.deployment import Release
from handover.models.image_reference import BadImage, ImageReference
from handover.models.versions import core_of
from handover.plan import freeze, window

if TYPE_CHECKING:
    from handover.plan.model import Plan

VERSION = r"^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$"
"""What the form accepts: a semantic version with a leading v, as in the tag of the image, so without build metadata."""
MIN_REASON = 5
MAX_CHARACTERS = 2000
"""Of any field: it is recorded, and told in messages."""
_NUMBER = r"(\d+\.\d+\.\d+)(?:-[0-9A-Za-z.-]+)?"
_TEXTS = ("version", "image", "method", "reason", "window_override_reason", "readiness_override_reason")
_SWITCHES = ("banner", "window_override")


class BadRequest(ValueError):
    """The request cannot be carried out; the text lists everything that is wrong and what to do."""


def release_of(plan: Plan, asked: Mapping[str, Any], now: datetime.datetime | None) -> Release:
    """The release that the parameters ask for. Raises `BadRequest` with every fault at once.

    :param now: when it is to be deployed; None when it is only judged, which may be done at any time
    """
    _refuse(_form_faults(asked))
    version = (asked.get("version") or "").strip()
    methods = plan.migration.methods if plan.migration else ("none",)
    method = asked.get("method") or methods[0]
    faulty = _version_faults(version)
    image = (asked.get("image") or "").strip() or ("" if faulty else plan.image.of(version))
    override = asked.get("window_override") is True
    override_reason = (asked.get("window_override_reason") or "").strip()
    readiness_reason = (asked.get("readiness_override_reason") or "").strip()
    reason = (asked.get("reason") or "").strip()
    faults = [
        *faulty,
        *(_image_faults(plan, image, "" if faulty else version) if image else []),
        *_method_faults(method, methods),
        *([] if _says_enough(reason) else ["reason: say in a few words why this release is deployed"]),
        *_readiness_faults(readiness_reason),
        *(_window_faults(plan, override, override_reason, now) if now else []),
    ]
    _refuse(faults)
    return Release(
        version=version, image=image, method=method, banner=asked.get("banner") in (None, True),
        reason=reason, window_override=override, window_override_reason=override_reason if override else "",
        readiness_override_reason=readiness_reason,
    )  # fmt: skip


def _refuse(faults: Sequence[str]) -> None:
    if faults:
        raise BadRequest("nothing was touched, because of:\n- " + "\n- ".join(faults))


def _form_faults(asked: Mapping[str, Any]) -> list[str]:
    """What no form would send, and a Variable may hold: a switch that is a text is neither on nor off."""
    texts = {key: asked[key] for key in _TEXTS if asked.get(key) is not None}
    return [
        *(f"{key}: {fault}" for key, value in texts.items() if (fault := _text_fault(value))),
        *(f"{key}: true or false, not {asked[key]!r:.40}" for key in _SWITCHES
          if not isinstance(asked.get(key), bool | None)),
    ]  # fmt: skip


def _text_fault(value: object) -> str:
    if not isinstance(value, str):
        return f"a text, not {value!r:.40}"
    if len(value) > MAX_CHARACTERS:
        return f"{len(value)} characters, at most {MAX_CHARACTERS} are recorded"
    return "" if value.isascii() or not _broken(value) else "holds half a character (a lone surrogate)"


def _broken(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _version_faults(version: str) -> list[str]:
    from semver import Version

    if re.match(VERSION, version) and Version.is_valid(version[1:]):
        return []
    return [f"version: {version or 'nothing'!r} is not a semantic version; write it as v1.2.3"]


def _method_faults(method: str, methods: Sequence[str]) -> list[str]:
    return (
        [] if method in methods else [f"method: {method!r} is not a way of this plan; there are {', '.join(methods)}"]
    )


def _image_faults(plan: Plan, image: str, version: str) -> list[str]:
    """Any tag may be given, and a digest, but not what this plan calls the image of another release."""
    try:
        named, trusted = ImageReference.parse(image), ImageReference.parse(plan.image.repository)
    except BadImage as wrong:
        return [f"image: {wrong}"]
    if not named.is_from(trusted):
        return [f"image: {image!r} is not from {trusted}, the only repository that this plan trusts"]
    if version and (other := _other_release(plan, named.tag, version)):
        return [
            f"image: {image!r} is what the plan calls release {other}, and version says {version}: correct one of "
            "them, or give the digest without a tag"
        ]
    return [] if named.tag or named.pinned else [f"image: {image!r} has neither a tag nor a sha256 digest"]


def _other_release(plan: Plan, tag: str, version: str) -> str:
    """The release that a tag names by the plan's ``image.tag``, unless it is this one or a variant of it."""
    named = re.escape(plan.image.tag).replace(r"\{version\}", f"v{_NUMBER}").replace(r"\{number\}", _NUMBER)
    found = re.fullmatch(named, tag, re.ASCII)
    core = core_of(version)
    return next((f"v{one}" for one in found.groups() if one != core), "") if found else ""


def _says_enough(reason: str) -> bool:
    """Whether it has a few characters that are seen: none of zero width, and no others that print nothing."""
    return len("".join(one for one in reason if unicodedata.category(one)[0] != "C").strip()) >= MIN_REASON


def _readiness_faults(reason: str) -> list[str]:
    missing = "readiness_override_reason: say in a few words why it may go out without readiness; it is recorded"
    return [missing] if reason and not _says_enough(reason) else []


def _window_faults(plan: Plan, override: bool, reason: str, now: datetime.datetime) -> list[str]:
    if override:
        missing = "window_override_reason: an override of window or freeze needs a reason; it is recorded"
        return [] if _says_enough(reason) else [missing]
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
