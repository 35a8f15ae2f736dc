"""What Airflow's API server answers below ``/handover``: the page, what it asks, and "roll back now"."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from handover.workflows.page import routes as page
from handover.workflows.rollback import routes as rollback

PREFIX = "/handover"


@asynccontextmanager
async def _kept(app: FastAPI) -> AsyncIterator[None]:
    app.state.plans, app.state.readers = {}, {}
    try:
        yield
    finally:
        for one in (*app.state.plans.values(), *app.state.readers.values()):
            await one.close()


def application() -> FastAPI:
    """The plugin's part of the API server."""
    app = FastAPI(title="handover", docs_url=None, redoc_url=None, openapi_url=None, lifespan=_kept)
    app.include_router(rollback.router)
    app.include_router(page.router)
    return app
