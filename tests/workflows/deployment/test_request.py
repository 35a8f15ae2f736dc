"""What somebody may ask for, before anything is touched."""

from __future__ import annotations

import datetime

import pytest

from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.plan.parts import PLANS_VARIABLE
from handover.workflows.deployment.request import BadRequest, release_of

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
IN_WINDOW = datetime.datetime(2026, 11, 24, 15, 0, tzinfo=datetime.UTC)
WEDNESDAY = datetime.datetime(2026, 11, 25, 15, 0, tzinfo=datetime.UTC)
GOOD = {"version": "v1.1.0", "reason": "the November release"}


def test_a_version_and_a_reason_are_enough():
    release = release_of(PLAN, GOOD, IN_WINDOW)
    assert release.image == f"{PLAN.image.repository}:v1.1.0"
    assert (release.method, release.banner, release.window_override) == ("sql", True, False)


@pytest.mark.parametrize("version", [None, "", "1.1.0", "v1.1", "v01.1.0", "latest", "v1.1.0+build", "v1.1.0;rm"])
def test_a_version_that_is_not_semantic_is_refused(version):
    with pytest.raises(BadRequest, match="semantic version"):
        release_of(PLAN, {**GOOD, "version": version}, IN_WINDOW)


@pytest.mark.parametrize(
    "image",
    [
        "evil.example.com/ai-hotel/pms:v1.1.0",
        f"{PLAN.image.repository}-evil:v1.1.0",
        f"{PLAN.image.repository}/x:v1.1.0",
        "pms:v1.1.0",
    ],
)
def test_an_image_from_another_repository_is_refused(image):
    with pytest.raises(BadRequest, match="only repository that this plan trusts"):
        release_of(PLAN, {**GOOD, "image": image}, IN_WINDOW)


@pytest.mark.parametrize("reference", ["@sha256:abc", "@md5:" + "0" * 32, ":"])
def test_an_image_without_a_proper_tag_or_digest_is_refused(reference):
    with pytest.raises(BadRequest, match="image"):
        release_of(PLAN, {**GOOD, "image": PLAN.image.repository + reference}, IN_WINDOW)


@pytest.mark.parametrize("tag", ["", ":v1.1.0"])
def test_an_image_by_digest_is_accepted(tag):
    image = f"{PLAN.image.repository}{tag}@sha256:{'a' * 64}"
    assert release_of(PLAN, {**GOOD, "image": image}, IN_WINDOW).image == image


@pytest.mark.parametrize(
    "repository", ["registry:5000/shop/web", "localhost/web", "web", "shop/web", "10.0.0.1:5000/web"]
)
@pytest.mark.parametrize("reference", [":v1.1.0", ":v1.1.0@sha256:" + "a" * 64, "@sha256:" + "a" * 64])
def test_any_repository_that_a_plan_may_name_is_trusted(repository, reference):
    plan = PLAN.model_copy(update={"image": type(PLAN.image)(repository=repository, connection="registry")})
    assert release_of(plan, GOOD, IN_WINDOW).image == f"{repository}:v1.1.0"
    assert (
        release_of(plan, {**GOOD, "image": f"{repository}{reference}"}, IN_WINDOW).image == f"{repository}{reference}"
    )
    with pytest.raises(BadRequest, match="neither a tag nor"):
        release_of(plan, {**GOOD, "image": repository}, IN_WINDOW)


@pytest.mark.parametrize(("tag", "named", "other"), [
    ("{version}", ":v9.9.9", "v9.9.9"), ("{version}", ":v9.9.9@sha256:" + "a" * 64, "v9.9.9"),
    ("{version}", ":v1.1.0", ""), ("{version}", ":v1.1.0-alpine", ""), ("{version}", ":v1.1.0-rc.4", ""),
    ("{version}", ":latest", ""), ("{version}", ":2026.11.29", ""), ("{version}", ":5f3a91c", ""),
    ("{version}", "@sha256:" + "a" * 64, ""), ("{number}-alpine", ":9.9.9-alpine", "v9.9.9"),
    ("{number}-alpine", ":1.1.0-alpine", ""), ("{number}-alpine", ":v9.9.9", ""),
    ("release.{number}", ":release.1.1.1", "v1.1.1"),
])  # fmt: skip
def test_an_image_that_the_plan_calls_another_release_is_refused(tag, named, other):
    plan = PLAN.model_copy(update={"image": PLAN.image.model_copy(update={"tag": tag})})
    asked = {**GOOD, "image": f"{PLAN.image.repository}{named}"}
    if not other:
        assert release_of(plan, asked, IN_WINDOW).image == asked["image"]
        return
    with pytest.raises(BadRequest, match=f"calls release {other}, and version says v1.1.0: correct one"):
        release_of(plan, asked, IN_WINDOW)


@pytest.mark.parametrize(
    "reason",
    ["", "    ", "\u200b" * 5, "ab\u200b\u200b\u200bc", "\u2060\ufeff\u200d\u200c\u00ad", "\0" * 5],
    ids=["empty", "blanks", "zero_width", "three_of_six", "formats", "controls"],
)
def test_a_reason_that_nobody_can_see_is_none(reason):
    with pytest.raises(BadRequest, match="reason: say in a few words"):
        release_of(PLAN, {**GOOD, "reason": reason}, IN_WINDOW)
    with pytest.raises(BadRequest, match="window_override_reason"):
        release_of(PLAN, {**GOOD, "window_override": True, "window_override_reason": reason}, WEDNESDAY)
    if reason.strip():
        with pytest.raises(BadRequest, match="readiness_override_reason"):
            release_of(PLAN, {**GOOD, "readiness_override_reason": reason}, IN_WINDOW)


@pytest.mark.parametrize("reason", ["oprava platby", "修正支払い", "fix 👩\u200d💻", "ok so"])
def test_a_reason_in_any_script_is_one(reason):
    assert release_of(PLAN, {**GOOD, "reason": reason}, IN_WINDOW).reason == reason


FROZEN = datetime.datetime(2026, 12, 29, 15, 0, tzinfo=datetime.UTC)
"""A Tuesday in the window, in the year-end freeze of the plan's calendar."""


def test_a_freeze_refuses_what_the_window_allows():
    with pytest.raises(BadRequest, match=r"freeze: Year-end freeze.*until Sunday 2027-01-03.*window_override"):
        release_of(PLAN, GOOD, FROZEN)


def test_a_freeze_is_overridden_with_a_reason_on_record():
    asked = {**GOOD, "window_override": True, "window_override_reason": "guests cannot check in"}
    assert "guests cannot check in" in release_of(PLAN, asked, FROZEN).why


def test_a_broken_calendar_refuses_because_nobody_knows(tmp_path, monkeypatch):
    monkeypatch.setenv(PLANS_VARIABLE, str(tmp_path / "plans"))
    (tmp_path / "calendars").mkdir()
    (tmp_path / "calendars" / "pms-freeze.ics").write_text("BEGIN:VCAL")
    with pytest.raises(BadRequest, match=r"freeze: unknown: .*pms-freeze\.ics"):
        release_of(PLAN, GOOD, IN_WINDOW)


@pytest.mark.plan("Day: Tuesday (mid-week, avoiding weekends)")
def test_outside_the_window_the_error_says_when_it_opens():
    with pytest.raises(BadRequest, match=r"Tuesday 2026-12-01 14:00 UTC.*window_override"):
        release_of(PLAN, GOOD, WEDNESDAY)


def test_an_override_needs_a_reason_of_its_own():
    with pytest.raises(BadRequest, match="window_override_reason"):
        release_of(PLAN, {**GOOD, "window_override": True}, WEDNESDAY)
    asked = {**GOOD, "window_override": True, "window_override_reason": "security fix"}
    assert release_of(PLAN, asked, WEDNESDAY).window_override_reason == "security fix"
    assert release_of(PLAN, asked | {"window_override": False}, IN_WINDOW).why == GOOD["reason"], "nothing to override"


def test_every_fault_is_named_at_once():
    with pytest.raises(BadRequest) as error:
        release_of(PLAN, {"version": "1", "image": "x:1", "reason": ""}, WEDNESDAY)
    assert all(word in str(error.value) for word in ("version:", "image:", "reason:", "window:", "nothing was touched"))


def test_a_release_that_is_only_judged_needs_no_window():
    assert release_of(PLAN, GOOD, None).version == "v1.1.0"
    with pytest.raises(BadRequest, match="semantic version"):
        release_of(PLAN, {**GOOD, "version": "1"}, None)


def test_an_override_of_readiness_is_part_of_the_recorded_reason():
    with pytest.raises(BadRequest, match="readiness_override_reason"):
        release_of(PLAN, {**GOOD, "readiness_override_reason": "x"}, IN_WINDOW)
    asked = release_of(PLAN, {**GOOD, "readiness_override_reason": "security fix"}, IN_WINDOW)
    assert asked.why == "the November release; readiness overridden: security fix"
    assert release_of(PLAN, GOOD, IN_WINDOW).readiness_override_reason == ""
