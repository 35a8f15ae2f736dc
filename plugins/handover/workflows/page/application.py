"""What Airflow's API server answers below ``/handover``: the page, what it asks, and "roll back now"."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from fastapi import FastAPI, Request
from fastapi.exception_handlers import http_exception_handler
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response

from handover.workflows.page import files
from handover.workflows.page import routes as page
from handover.workflows.page.streams import Streams
from handover.workflows.rollback import routes as rollback

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PREFIX = "/handover"


def views() -> list[dict[str, Any]]:
    """Where Airflow's UI shows the page: for all services an entry of its own, and for one deployment a tab of the run.
    Airflow shows that tab beside the runs of every DAG; of those of others the page says that they are none of ours.
    """
    here = _root() + PREFIX
    icons = {"icon": f"{here}/static/{files.ICON}", "icon_dark_mode": f"{here}/static/{files.DARK_ICON}"}
    return [
        {"name": "Services", "href": f"{here}/", "destination": "nav", "url_route": "services", "nav_top_level": True,
         **icons},
        {"name": "Deployment", "href": f"{here}/runs/{{DAG_ID}}/{{RUN_ID}}", "destination": "dag_run",
         "url_route": "service-deployment", **icons},
    ]  # fmt: skip


def _root() -> str:
    """The path of this Airflow, "" where it has a host of its own."""
    from airflow.configuration import conf

    return urlsplit(conf.get("api", "base_url", fallback="/")).path.rstrip("/")


class SafeHeaders:
    """Every answer has `files.SAFE`, an error's and a stream's too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(files.SAFE)
            await send(message)

        await self._app(scope, receive, safely)


@asynccontextmanager
async def _kept(app: FastAPI) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await app.state.streams.close()
        for one in (*app.state.plans.values(), *app.state.readers.values()):
            await one.close()


async def _refused(request: Request, error: Exception) -> Response:
    """Who follows a link without a login signs in first, and comes back; whatever else asks is told 401."""
    assert isinstance(error, StarletteHTTPException)
    if error.status_code == 401 and request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        back = f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
        return RedirectResponse(f"{_root()}/api/v2/auth/login?{urlencode({'next': back})}", 303)
    return await http_exception_handler(request, error)


async def _away(_: Request, error: Exception) -> Response:
    assert isinstance(error, page.PartAway)
    return JSONResponse(error.body.model_dump(mode="json"), error.status)


def application() -> FastAPI:
    """The plugin's part of the API server."""
    app = FastAPI(title="handover", docs_url=None, redoc_url=None, openapi_url=None, lifespan=_kept)
    app.state.plans, app.state.readers, app.state.known = {}, {}, {}
    app.state.streams, app.state.files = Streams(), files.found()
    app.add_middleware(SafeHeaders)
    app.add_exception_handler(page.PartAway, _away)
    app.add_exception_handler(StarletteHTTPException, _refused)
    for router in (rollback.router, page.router, files.router):
        app.include_router(router)
    return app
