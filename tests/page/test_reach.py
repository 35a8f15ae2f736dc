"""The page reaches everybody: by keyboard, with a screen reader, on a phone, in both themes, in Airflow's frame."""

from __future__ import annotations

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

from handover.models.record import Deployment
from tests.support.page import IMAGE

pytestmark = [pytest.mark.browser, pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="session")]
PHONE = {"width": 375, "height": 812, "is_mobile": True, "has_touch": True, "device_scale_factor": 2}
WIDTH = "document.documentElement.scrollWidth"


async def past(scene, count):
    """So many deployments of the past."""
    await scene.record(*(
        Deployment(
            plan="pms", version=f"v0.{n}.0", image=IMAGE, previous_version=f"v0.{n - 1}.0", previous_image=IMAGE,
            method="none", requested_by="lead", reason=f"release {n}", started_at=1_790_000_000.0 + n * 86400,
        ).of(f"manual__{n}", f"manual__{n}", "open")
        for n in range(1, count + 1)
    ))  # fmt: skip


async def test_a_phone_shows_all_of_it_without_scrolling_sideways(scene, visit, picture):
    await scene.soaking()
    await past(scene, 3)
    page = await visit(**PHONE)
    await expect(page.get_by_role("heading", name="Deployments", exact=True)).to_be_visible()
    await page.get_by_role("heading", name="Measures").scroll_into_view_if_needed()
    await expect(page.locator(".uplot")).not_to_have_count(0)
    assert await page.evaluate(WIDTH) <= 375
    await page.evaluate("scrollTo(0, 0)")
    await picture(page, "phone")
    await page.goto(f"{scene.url}/handover/#/")
    await expect(page.get_by_role("heading", name="AI Hotel Assistant PMS")).to_be_visible()
    assert await page.evaluate(WIDTH) <= 375


async def test_the_keyboard_alone_rolls_back(scene, visit):
    await scene.soaking()
    page = await visit()
    button = page.get_by_role("button", name="Roll back now")
    await expect(button).to_be_enabled()
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await expect(button).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Why")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(button).to_be_focused()
    await page.keyboard.press("Enter")
    await page.keyboard.type("checkout is broken")
    for _ in range(2):
        await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog")).to_contain_text("traffic is on blue (v1.0.0)")


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_axe_finds_nothing(scene, visit, picture, theme):
    await scene.soaking()
    scene.asks("ask", "Go on?", until=scene.began)
    page = await visit(color_scheme=theme, height=1300)
    await expect(page.locator(".uplot")).not_to_have_count(0)
    await expect(page.locator("html")).to_have_attribute("data-theme", theme)
    for where in ("question", "services", "dialog"):
        if where == "services":
            await page.goto(f"{scene.url}/handover/#/")
            await expect(page.get_by_role("heading", name="AI Hotel Assistant PMS")).to_be_visible()
            await expect(page.get_by_text("v1.1.0 waits for an answer: Go on?")).to_be_visible()
            if theme == "light":
                await picture(page, "services")
        elif where == "dialog":
            await page.goto(scene.page)
            await page.get_by_role("button", name="Roll back now").click()
            await expect(page.get_by_role("dialog")).to_be_visible()
        elif theme == "dark":
            await picture(page, "dark")
        found = await Axe().run(page)
        assert found.violations_count == 0, found.generate_report()


async def test_airflows_own_theme_is_taken_over(scene, visit):
    page = await visit(color_scheme="light")
    await expect(page.locator("html")).to_have_attribute("data-theme", "light")
    await page.evaluate("localStorage.setItem('theme', 'dark')")
    await page.reload()
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")


async def test_airflows_frame_shows_it_and_its_links_lead_out(scene, visit):
    await scene.soaking()
    page = await visit(url=f"{scene.url}/framed")
    frame = page.frame_locator("iframe")
    await frame.get_by_role("link", name="AI Hotel Assistant PMS").click()
    link = frame.get_by_role("link", name="manual__", exact=False).first
    async with page.context.expect_page() as opened:
        await link.click()
    assert (await opened.value).url.endswith("/dags/pms_deployment/runs/manual__2026-11-24")


async def test_hundreds_of_past_deployments_are_paged(scene, visit):
    await past(scene, 45)
    page = await visit()
    table = page.get_by_role("region", name="Deployments", exact=True)
    await expect(table).to_contain_text("1 to 20 of 45")
    await expect(table.get_by_role("row")).to_have_count(21)
    await table.get_by_role("button", name="Older").click()
    await expect(table).to_contain_text("21 to 40 of 45")
    await table.get_by_role("link", name="v0.25.0").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("v0.25.0, after v0.24.0")
    await page.go_back()
    await expect(table).to_be_visible()


async def test_times_are_local_or_utc_as_the_person_likes(scene, visit):
    await scene.begin()
    page = await visit(timezone_id="Asia/Tokyo")
    toggle = page.get_by_role("button", name="Times: Asia/Tokyo")
    await toggle.click()
    await expect(page.get_by_role("button", name="Times: UTC")).to_be_visible()
    title = await page.locator("time").first.get_attribute("title")
    assert "UTC" in title and "local" in title
