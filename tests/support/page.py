"""The page's server as a browser meets it: on the twin of the cluster, with people who have rights, in real time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import httpx
import pytest
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api import security
from fastapi import FastAPI, HTTPException, Request

from handover.adapters.postgres import Database
from handover.models.deployment import FencingToken
from handover.outside import outside, standing_in
from handover.plan.model import Plan
from handover.ports.kube import Kube, KubeError
from handover.workflows.page import looking, parts
from handover.workflows.page.application import PREFIX, application
from handover.workflows.page.reader import Reader
from handover.workflows.rollback.now import RollBackNow
from tests.support.steps import opened
from tests.support.until import PATIENCE
from tests.twins.airflow import TwinAirflow
from tests.twins.service import TwinService

T = TypeVar("T")
IMAGE = f"registry.example.com/shop/web@sha256:{'1' * 64}"
WHO = "x-test-user"
"""Header that says who is signed in; without it nobody is."""
ROLES = {"viewer": "viewer", "user": "user", "lead": "op", "stranger": "viewer"}
"""``stranger`` may read no DAG of the plan."""


class Rights(SimpleAuthManager):
    """Airflow's own roles, and one person who has none for this plan."""

    def is_authorized_dag(self, *, method, user, access_entity=None, details=None):
        if user.username == "stranger":
            return False
        return super().is_authorized_dag(method=method, user=user, access_entity=access_entity, details=details)


def people(patch: pytest.MonkeyPatch) -> None:
    """Who may what is asked of `Rights`; however slow this machine is, nothing is taken for silent."""
    patch.setattr(parts, "PATIENCE_SECONDS", PATIENCE)
    patch.setattr(looking, "LOOK_SECONDS", PATIENCE)
    patch.setattr(security, "get_auth_manager", Rights)
    patch.setattr(security.DagModel, "get_team_name", lambda _dag: None)


def _signed_in(request: Request) -> SimpleAuthManagerUser:
    name = request.headers.get(WHO, "")
    if name not in ROLES:
        raise HTTPException(401, "Not authenticated")
    return SimpleAuthManagerUser(username=name, role=ROLES[name])


@dataclass
class Desk:
    """``away``: the cluster does not answer. ``app``: what serves below `PREFIX`."""

    service: TwinService
    airflow: TwinAirflow = field(default_factory=TwinAirflow)
    away: bool = False
    token: FencingToken | None = None

    def __post_init__(self) -> None:
        self.inner = application()
        self.inner.dependency_overrides[security.get_user] = _signed_in
        plan = self.plan
        self.inner.state.readers = {plan.name: Reader(plan)}
        self.inner.state.plans = {plan.name: RollBackNow(plan)}
        self.app = FastAPI()
        self.app.mount(PREFIX, self.inner)

    @property
    def plan(self) -> Plan:
        return self.service.plan

    def with_plan(self, plan: Plan) -> None:
        """Another one under the same name."""
        self.inner.state.readers = {plan.name: Reader(plan)}

    def deploy(self, **known: Any) -> FencingToken:
        """A deployment has begun."""
        self.token = asyncio.run(opened(self.service.kube(), self.plan.lock_name, IMAGE, **known))
        return self.token

    def cluster(self, work: Callable[[Kube], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run(work(self.service.kube()))

    @contextmanager
    def outside(self) -> Iterator[None]:
        """What the product finds outside for as long as this lasts."""
        theirs = self.service.outside()

        def kube(connection: str, namespace: str) -> Any:
            if self.away:
                raise KubeError(0, "connection refused")
            return theirs.kube(connection, namespace)

        with standing_in(replace(theirs, airflow=lambda _connection: self.airflow, kube=kube)):
            assert outside().kube is kube
            yield

    def get(self, path: str, who: str = "viewer", **more: Any) -> httpx.Response:
        """One answer; every call is a moment of its own, with nothing remembered but what was said last."""
        return self.ask(lambda client: client.get(f"{PREFIX}{path}", **more), who)

    def ask(self, work: Callable[[httpx.AsyncClient], Coroutine[Any, Any, T]], who: str = "viewer") -> T:
        async def asked() -> T:
            transport = httpx.ASGITransport(self.app)
            headers = {WHO: who} if who else {}
            async with httpx.AsyncClient(transport=transport, base_url="http://a.example.com", headers=headers) as web:
                return await work(web)

        with self.outside():
            return asyncio.run(asked())


def connection_to(where: Database) -> str:
    """As an environment variable of Airflow has it."""
    return json.dumps({
        "conn_type": "postgres", "host": where.host, "port": where.port, "login": where.user,
        "password": where.password, "schema": where.name,
    })  # fmt: skip
