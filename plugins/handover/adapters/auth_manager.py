"""Airflow's auth manager for production: Flask-AppBuilder's, with rights to a part of one DAG, questions answered by
the names that people sign in with, and wrong passwords slowed.

``[core] auth_manager`` names `AuthManager`. Imported by the API server, and by what lays Airflow's tables.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
from airflow.providers.fab.www.security.permissions import RESOURCE_DAG_RUN
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, Response

from handover.plan.airflow_roles import RUN, of_dag

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.base_auth_manager import ResourceMethod
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
    from airflow.providers.fab.auth_manager.models import User
    from fastapi import FastAPI
    from starlette.middleware.base import RequestResponseEndpoint
    from starlette.requests import Request
    from starlette.types import ASGIApp

WRONG_PASSWORDS = "10 per 1 minute"
"""From one address, in each process of the API server. The page to sign in has a limit of its own, ``[fab]
auth_rate_limit``."""
AT_A_TIME = 4
"""Passwords that one process looks at: each takes 32 MB and a good part of a second of a processor."""


class AuthManager(FabAuthManager):
    """A change of a part of a DAG (a run, an answer, a task, an XCom) needs the right to that part, of every DAG or of
    this one, and to see the DAG. Flask-AppBuilder asks for the right to edit the DAG instead: whoever may start a
    deployment or answer a question could also pause the rollback.
    """

    def is_authorized_dag(
        self, *, method: ResourceMethod, user: User, access_entity: DagAccessEntity | None = None,
        details: DagDetails | None = None,
    ) -> bool:  # fmt: skip
        if method == "GET" or access_entity is None:
            return super().is_authorized_dag(method=method, user=user, access_entity=access_entity, details=details)

        def may_change(part: str) -> bool:
            names = [part]
            if details and details.id:
                names.append(of_dag(RUN if part == RESOURCE_DAG_RUN else part, details.id))
            return any(self._is_authorized(method=method, resource_type=name, user=user) for name in names)

        seen = self._is_authorized_dag(method="GET", details=details, user=user)
        return seen and all(may_change(part) for part in self._get_fab_resource_types(access_entity))

    def is_authorized_hitl_task(self, *, assigned_users: set[str], user: User) -> bool:
        """The plan names people; Flask-AppBuilder numbers them."""
        return user.username in assigned_users

    def get_fastapi_app(self) -> FastAPI | None:
        app = super().get_fastapi_app()
        if app is not None:
            app.add_middleware(Throttle)
        return app


class Throttle(BaseHTTPMiddleware):
    """After too many wrong passwords an address is told 429 for a while, whatever it sends then. Only what is wrong
    counts: automation signs in often.
    """

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app)
        self._limiter, self._limit = MovingWindowRateLimiter(MemoryStorage()), parse(WRONG_PASSWORDS)
        self._turn = asyncio.Semaphore(AT_A_TIME)

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        if request.method != "POST":
            return await call_next(request)
        who = request.client.host if request.client else ""
        async with self._turn:  # those who come all at once are counted as well
            if not self._limiter.test(self._limit, who):
                return JSONResponse({"detail": "too many wrong passwords, wait a minute"}, 429, {"Retry-After": "60"})
            answer = await call_next(request)
            if answer.status_code == 401:
                self._limiter.hit(self._limit, who)
        return answer
