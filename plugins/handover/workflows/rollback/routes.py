"""Where traffic is, and "roll back now", as Airflow's API server answers it (`handover.workflows.page.application`).

No route of a plugin has a login by itself (apache/airflow#63081), so each asks for the right that its like in Airflow
has: to look, the rollback DAG's runs; to roll back, to start one. Imported by the API server alone.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import get_user, requires_access_dag
from airflow.sdk.exceptions import AirflowNotFoundException
from fastapi import APIRouter, Depends, HTTPException, Path, Request, Response
from pydantic import ValidationError

from handover.adapters.kube_access import NoAccess
from handover.coordination.lock import FencedOut
from handover.coordination.promotion import Refused
from handover.plan.load import load_plans
from handover.plan.model import Plan
from handover.ports.kube import KubeError
from handover.traffic.abort import NothingToRollBack
from handover.workflows.rollback.now import RollbackAsked, RollBackNow, RolledBack, Whereabouts

router = APIRouter()
MAX_BYTES = 2**14
"""Of what is sent: a reason, and a name."""
HEADER = "X-Handover"
"""A page of this Airflow sends it; a form of another site cannot."""
Name = Annotated[str, Path(pattern="^[a-z][a-z0-9_]{0,63}$")]
User = Annotated[BaseUser, Depends(get_user)]
"""Whoever is signed in; nobody is answered 401."""
AWAY = (KubeError, NoAccess, AirflowNotFoundException)
"""The cluster, the way to it, and the connection that leads there."""


def _may_look(plan: Name, request: Request, user: User) -> None:
    requires_access_dag("GET", DagAccessEntity.RUN, f"{plan}_rollback")(request, user)


def _may_roll_back(plan: Name, request: Request, user: User) -> None:
    requires_access_dag("POST", DagAccessEntity.RUN, f"{plan}_rollback")(request, user)


def _from_here(request: Request) -> None:
    """A browser sends its session's cookie whoever has made it ask; a token is sent by who holds it."""
    if request.headers.get("authorization"):
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    elsewhere = site not in (None, "same-origin") or (origin and urlsplit(origin).netloc != request.headers.get("host"))
    if HEADER not in request.headers or elsewhere or not (site or origin):
        raise HTTPException(403, f"a session's request comes from a page of this Airflow, and has the header {HEADER}")


async def _asked(request: Request) -> RollbackAsked:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BYTES:
            raise HTTPException(413, f"more than {MAX_BYTES} bytes")
    try:
        return RollbackAsked.model_validate_json(body)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}" for one in error.errors())
        raise HTTPException(422, wrong) from None


def plan_named(name: str) -> Plan:
    """For a route that is about a plan. Raises 404."""
    found = next((one for one in load_plans() if not isinstance(one, ValueError) and one.name == name), None)
    if found is None:
        raise HTTPException(404, f"there is no plan {name}, or it is broken")
    return found


def _plan_of(plan: Name, request: Request) -> RollBackNow:
    """Plans are read when they are first asked for: a new one needs a restart, as it does for its DAGs' plugins."""
    kept: dict[str, RollBackNow] = request.app.state.plans
    if plan not in kept:
        kept[plan] = RollBackNow(plan_named(plan))
    return kept[plan]


@router.get("/plans/{plan}", dependencies=[Depends(_may_look)])
async def where(plan: Annotated[RollBackNow, Depends(_plan_of)], response: Response) -> Whereabouts:
    response.headers["Cache-Control"] = "no-store"
    try:
        return await plan.where()
    except AWAY as error:
        raise HTTPException(503, f"the cluster did not answer: {error}") from None


@router.post("/plans/{plan}/rollback", dependencies=[Depends(_may_roll_back), Depends(_from_here)])
async def roll_back(
    plan: Annotated[RollBackNow, Depends(_plan_of)],
    asked: Annotated[RollbackAsked, Depends(_asked)],
    user: User,
    response: Response,
) -> RolledBack:
    try:
        told = await plan.roll_back(asked, user.get_name())
    except (NothingToRollBack, FencedOut, Refused) as error:
        raise HTTPException(409, str(error)) from None
    except AWAY as error:
        said = f"traffic was not moved: {error}; with a kubeconfig: python -m handover back"
        raise HTTPException(503, said) from None
    response.status_code = 200 if told.back else 202
    return told
