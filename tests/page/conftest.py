"""The real page in a real browser, served as in production but for what stands behind it: twins and a real ledger."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from fastapi.responses import HTMLResponse

from handover.plan.model import Plan
from handover.record.ledger import Ledger
from tests.page.airflow import FRAME, AirflowPages
from tests.page.scene import Scene
from tests.record.conftest import Book, book, server  # noqa: F401 - fixtures
from tests.support.page import WHO, Desk, connection_to, people
from tests.twins.service import TwinService
from tests.twins.world import QUICK, plan_with

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions", "--no-first-run"]
PATIENCE_SECONDS = 120
"""A page that takes so long is broken on any machine."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and item.get_closest_marker("browser") and CHROMIUM is None:
            item.add_marker(pytest.mark.skip(reason="there is no Chromium here"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Any]:
    """One for all tests of this process."""
    from playwright.async_api import async_playwright, expect

    expect.set_options(timeout=PATIENCE_SECONDS * 1000)
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        await chromium.close()


@pytest.fixture(scope="session")
def slow_plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """The repository's plan, whose watch may be silent for as long as a test takes."""
    watch = QUICK["watch"] | {"no_data_seconds": 300}
    return plan_with(tmp_path_factory.mktemp("plan"), **(QUICK | {"watch": watch}))


@pytest_asyncio.fixture(loop_scope="session")
async def scene(slow_plan: Plan, book: Book, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:  # noqa: F811
    """The page's server on a port of its own."""
    people(monkeypatch)
    monkeypatch.setenv("AIRFLOW_CONN_PMS_RECORD", connection_to(book.writer))
    desk, airflow = Desk(TwinService(slow_plan)), AirflowPages()
    desk.app.include_router(airflow.router())
    desk.app.get("/framed", response_class=HTMLResponse)(lambda: FRAME.replace("{hash}", ""))
    config = uvicorn.Config(desk.app, host="127.0.0.1", port=0, log_level="warning", timeout_graceful_shutdown=1)
    runs = uvicorn.Server(config)
    with desk.outside():
        task = asyncio.create_task(runs.serve())
        while not runs.started:
            await asyncio.sleep(0.01)
        host, port = runs.servers[0].sockets[0].getsockname()
        yield Scene(desk, Ledger(book.writer, PATIENCE_SECONDS, PATIENCE_SECONDS), airflow, f"http://{host}:{port}")
        runs.should_exit = True
        await task


class Visitor:
    """Somebody who has the page open. ``outside``: requests to other hosts; ``problems``: what the console says."""

    def __init__(self, page: Any, url: str) -> None:
        self.url, self.outside, self.problems = url, list[str](), list[str]()
        page.on("request", self._asked)
        page.on("console", lambda said: self.problems.append(said.text) if "Content Security" in said.text else None)
        page.on("pageerror", lambda error: self.problems.append(str(error)))

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.url, "data:")):
            self.outside.append(request.url)


@pytest.fixture
def picture() -> Any:
    """Keeps what a page looks like, where `PICTURES` names a folder for it (``docs/images``)."""

    async def take(page: Any, name: str) -> None:
        if folder := os.environ.get("PICTURES"):
            await page.wait_for_timeout(3000)  # for plots and events that are under way
            await page.screenshot(path=Path(folder) / f"page-{name}.png", full_page=False)

    return take


@pytest_asyncio.fixture(loop_scope="session")
async def visit(browser: Any, scene: Scene) -> AsyncIterator[Any]:
    """Opens the page as somebody; at the end none of them met another host, an error or a forbidden resource."""
    visitors: list[Visitor] = []
    async with contextlib.AsyncExitStack() as stack:

        async def visit(who: str = "lead", url: str = "", width: int = 1280, height: int = 900, **more: Any) -> Any:
            headers = {WHO: who} if who else {}
            asked = {"viewport": {"width": width, "height": height}, "reduced_motion": "reduce"} | more
            context = await browser.new_context(extra_http_headers=headers, **asked)
            stack.push_async_callback(context.close)
            page = await context.new_page()
            page.set_default_timeout(PATIENCE_SECONDS * 1000)
            visitors.append(Visitor(page, scene.url))
            await page.goto(url or scene.page, wait_until="commit")
            return page

        yield visit
    assert [visitor.outside for visitor in visitors] == [[] for _ in visitors]
    assert [visitor.problems for visitor in visitors] == [[] for _ in visitors]
