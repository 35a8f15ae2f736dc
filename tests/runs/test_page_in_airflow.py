"""The page inside Airflow's own UI, in a real browser, beside a real deployment."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.async_api import async_playwright, expect

from sandbox.runs import DEPLOYMENT
from tests.page.conftest import CHROMIUM, FLAGS, PATIENCE_SECONDS

pytestmark = [
    pytest.mark.run,
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]


@pytest.fixture
async def page():
    expect.set_options(timeout=PATIENCE_SECONDS * 1000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = await browser.new_page(viewport={"width": 1440, "height": 1000}, reduced_motion="reduce")
        page.set_default_timeout(PATIENCE_SECONDS * 1000)
        yield page
        await browser.close()


async def sign_in(page, url: str, user: str, password: str) -> None:
    await page.goto(url)
    await page.get_by_label("Username").fill(user)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("link", name="Services")).to_be_visible()


async def picture(page, name: str) -> None:
    if folder := os.environ.get("PICTURES"):
        await page.wait_for_timeout(3000)  # for plots that are under way
        await page.screenshot(path=Path(folder) / f"{name}.png")


async def test_who_comes_from_a_run_finds_its_page_and_rolls_back_there(team, production, endpoints, page):
    run_id = team.start("v1.1.0")
    team.until(run_id, "phase_5_monitoring.stabilization", "deferred")
    airflow = endpoints["airflow"]
    await sign_in(page, airflow["url"], **airflow["users"]["lead"])
    await page.get_by_role("link", name="Services").click()
    ours = page.frame_locator("iframe")
    await expect(ours.get_by_role("heading", level=1)).to_be_visible()
    await expect(ours.locator("body")).to_contain_text("v1.1.0")
    await page.goto(f"{airflow['url']}/dags/{DEPLOYMENT}/runs/{quote(run_id, safe='')}")
    await page.get_by_role("link", name="Deployment", exact=True).click()
    await expect(ours.get_by_role("heading", level=1)).to_contain_text("v1.1.0")
    await picture(page, "page-in-airflow")
    await ours.get_by_role("button", name="Roll back now").click()
    dialog = ours.get_by_role("dialog")
    await dialog.get_by_label("Why").fill("the lead has seen enough")
    await dialog.get_by_role("button", name="Roll back now").click()
    await expect(dialog).to_contain_text("traffic is on")
    assert production.serving() == "v1.0.0"
    assert team.follow("v1.1.0", run_id).outcome == "rolled_back"
