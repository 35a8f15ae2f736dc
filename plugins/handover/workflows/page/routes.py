"""What the page asks: `views.py` says what each answer means. All of it only reads."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request, Response

from handover.plan.load import load_plans
from handover.workflows.page.access import Name, may_read, may_roll_back
from handover.workflows.page.reader import Reader
from handover.workflows.page.views import Now

router = APIRouter()


def reader_of(plan: Name, request: Request) -> Reader:
    """Kept for as long as this server runs: a new plan needs a restart, as it does for its DAGs' plugins."""
    kept: dict[str, Reader] = request.app.state.readers
    if plan not in kept:
        found = next((one for one in load_plans() if not isinstance(one, ValueError) and one.name == plan), None)
        if found is None:
            raise HTTPException(404, f"there is no plan {plan}, or it is broken")
        kept[plan] = Reader(found)
    return kept[plan]


def _fresh(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"


Plan = Annotated[Reader, Depends(reader_of)]
READ = [Depends(may_read), Depends(_fresh)]


@router.get("/plans/{plan}/now", dependencies=READ)
async def now(plan: Plan, allowed: Annotated[bool, Depends(may_roll_back)]) -> Now:
    found = await plan.now()
    return found.model_copy(update={"rollback": found.rollback.model_copy(update={"allowed": allowed})})
