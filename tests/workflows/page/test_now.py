"""What is going on now: of everything that answers, and of what does not since when."""

from __future__ import annotations


def test_before_the_first_deployment_everything_that_is_there_is_said(desk, recorded):
    told = desk.get("/plans/pms/now").json()
    assert (told["deployment"], told["lock"], told["watches"]) == (None, None, [])
    assert [(one["colour"], one["weight"], one["ready"], one["wanted"]) for one in told["traffic"]["colours"]] == [
        ("blue", 100, 2, 2),
        ("green", 0, 2, 2),
    ]
    assert all(part["answers"] for part in told["parts"].values())
    assert told["rollback"]["possible"] is False


def test_a_deployment_under_way_is_said_with_who_holds_the_lock(desk):
    desk.deploy()
    told = desk.get("/plans/pms/now").json()
    assert (told["deployment"]["version"], told["deployment"]["previous_version"]) == ("v1.1.0", "v1.0.0")
    assert told["deployment"]["digest"] == f"sha256:{'1' * 64}"
    assert (told["lock"]["holder"], told["lock"]["reason"]) == ("manual__2026-11-24", "a test")
    assert told["rollback"]["effect"].startswith("v1.1.0 is stopped: v1.0.0 goes on serving")
