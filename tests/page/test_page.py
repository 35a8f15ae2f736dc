"""The page in a browser: what somebody sees who was woken up, and what they can do there."""

from __future__ import annotations

import re
import time

import pytest
from playwright.async_api import expect

from handover.models.deployment import Status
from handover.models.evidence import Verdict

pytestmark = [pytest.mark.browser, pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="session")]


async def test_a_deployment_is_followed_live_to_its_end(scene, visit):
    page = await visit()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Nothing was ever deployed here.")
    await scene.begin(ago=60)
    scene.under_way(("phase_1_pre_deployment.database_backup.backup", "running"))
    await expect(page.get_by_role("heading", level=1)).to_contain_text(
        "v1.1.0 is being deployed (Phase 1: pre deployment)"
    )
    await scene.step("phase_1_pre_deployment.database_backup.backup", reason="120 MB, verified")
    await expect(page.get_by_text("Phase 1: pre deployment").last).to_be_visible()
    await scene.switch()
    await scene.beat()
    await scene.measure(60)
    scene.under_way(("phase_2_application_deployment.soak", "deferred"))
    await expect(page.get_by_role("heading", level=1)).to_contain_text("has served since")
    await expect(page.get_by_text("100 % of new connections go to green")).to_be_visible()
    await expect(page.locator(".uplot")).not_to_have_count(0)
    await scene.end()
    await expect(page.get_by_role("heading", level=1)).to_have_text("v1.1.0 is deployed and serves.")
    await expect(page.get_by_text("Nobody holds it.")).to_be_visible()
