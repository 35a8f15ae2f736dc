#!/usr/bin/env python3
"""Takes the pictures in docs/images from a running sandbox: the newest deployment and rollback in Airflow's own UI.

Needs `pip install playwright` and a Chromium (CHROMIUM=path, default /usr/bin/chromium):
    python scripts/pictures.py [.sandbox]
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from urllib.parse import quote

import httpx
from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
SIZE = {"width": 1900, "height": 1100}
GRAPH = {"x": 106, "y": 500, "width": 1220, "height": 190}
"""Where the UI draws the graph, beside the panel of the run."""


def main(home: Path) -> None:
    airflow = json.loads((home / "endpoints.json").read_text())["airflow"]
    IMAGES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport=SIZE, device_scale_factor=1.5)
        _sign_in(page, airflow)
        for dag in ("pms_deployment", "pms_rollback"):
            page.goto(f"{airflow['url']}/dags/{dag}")
            page.wait_for_timeout(3000)
            page.get_by_label("Expand all task groups").first.click()
            page.wait_for_timeout(2000)
            page.screenshot(path=IMAGES / f"{dag.removeprefix('pms_')}-grid.png")
            page.get_by_label("Collapse all task groups").first.click()
        page.goto(f"{airflow['url']}/dags/pms_deployment/runs/{_newest(airflow, 'success')}")
        page.wait_for_timeout(3000)
        page.keyboard.press("g")  # from the grid to the graph
        page.wait_for_timeout(5000)
        page.screenshot(path=IMAGES / "deployment-graph.png", clip=GRAPH)
        browser.close()


def _newest(airflow: dict[str, str], state: str) -> str:
    """Run id of the newest deployment that ended so, as a part of a URL."""
    login = {"username": airflow["user"], "password": airflow["password"]}
    with httpx.Client(base_url=airflow["url"], trust_env=False) as client:
        token = client.post("/auth/token", json=login).raise_for_status().json()["access_token"]
        runs = client.get(
            "/api/v2/dags/pms_deployment/dagRuns",
            params={"state": state, "run_type": "manual", "order_by": "-start_date", "limit": 1},
            headers={"Authorization": f"Bearer {token}"},
        )
    return quote(runs.raise_for_status().json()["dag_runs"][0]["dag_run_id"])


def _sign_in(page: Page, airflow: dict[str, str]) -> None:
    page.goto(f"{airflow['url']}/auth/login")
    page.fill('input[name="username"]', airflow["user"])
    page.fill('input[name="password"]', airflow["password"])
    page.click('button[type="submit"]')
    page.wait_for_load_state("networkidle")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ".sandbox"))
