"""Who may see what of the page: as Airflow has it for the DAGs of the plan.

No route of a plugin has a login by itself (apache/airflow#63081), so every route asks for one of these.
"""

from __future__ import annotations

from typing import Annotated

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import HTTPException, Path, Request

from handover.workflows.rollback.routes import Name, User

RunId = Annotated[str, Path(min_length=1, max_length=250)]


def may_read(plan: Name, request: Request, user: User) -> None:
    """Raises 403 for whoever may not read the runs of the deployment DAG."""
    requires_access_dag("GET", DagAccessEntity.RUN, f"{plan}_deployment")(request, user)


def reads(plan: str, request: Request, user: BaseUser) -> bool:
    """The same as an answer."""
    try:
        may_read(plan, request, user)
    except HTTPException:
        return False
    return True


def rolls_back(plan: str, request: Request, user: BaseUser) -> bool:
    """Whether they may start the rollback DAG, and so roll back from here."""
    try:
        requires_access_dag("POST", DagAccessEntity.RUN, f"{plan}_rollback")(request, user)
    except HTTPException:
        return False
    return True


def may_roll_back(plan: Name, request: Request, user: User) -> bool:
    """For routes of a plan that tell people what they may do."""
    return rolls_back(plan, request, user)
