"""The gate in front of a deployment: only a release that is ready goes out, or one whose override says why."""

from __future__ import annotations

import asyncio
import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from handover import clock
from handover.models.deployment import Release
from handover.models.image_reference import ImageReference

if TYPE_CHECKING:
    from handover.plan.model import Plan
    from handover.ports.kube import Kube


@dataclass(frozen=True)
class Gate:
    """Why a deployment may begin. ``run``: of the readiness that it rests on; ``overridden``: what was missing, when an
    override let it pass.
    """

    text: str
    run: str = ""
    overridden: str = ""

    def announce(self, context: Any, plan: Plan, release: Release) -> None:
        """An override is told to everybody; undelivered messages stop nothing."""
        from handover.people.channels import tell
        from handover.people.messages import readiness_overridden

        if self.overridden:
            tell(context, plan, readiness_overridden(plan, release, self.overridden))


async def readiness_gate(kube: Kube, plan: Plan, release: Release) -> tuple[Release, Gate]:
    """The release with its image pinned to the digest that was judged, and why it may go out. An override that was not
    needed is none.

    Raises `AirflowFailException` when it may not: readiness is missing, failed, expired, or of another release; or the
    registry has no such image, which no override can help.
    """
    from handover.readiness import result
    from handover.workload.registry import ImageMissing, pinned

    problem, image = "", release.image
    try:
        image = await asyncio.to_thread(pinned, plan, release.image)
        known = await result.read(kube, plan.readiness_name)
        problem = result.problem(known, release.version, ImageReference.parse(image).digest, clock.epoch())
    except result.Unreadable as error:
        problem = str(error)
    except ImageMissing as missing:
        if not _is_built_later(plan, image):
            raise AirflowFailException(f"nothing was touched: {missing}") from None
        problem = f"the image {image} is not built yet, so it has no readiness"
    except Exception as error:  # whatever the registry or its network does; a registry that is away is no readiness
        problem = f"the image {release.image} cannot be compared with its readiness: {error}"
    if not problem and known:
        until = datetime.datetime.fromtimestamp(known.expires, datetime.UTC)
        return release.model_copy(update={"image": image, "readiness_override_reason": ""}), Gate(
            f"ready until {until:%Y-%m-%d %H:%M} UTC ({known.run})", known.run
        )
    if release.readiness_override_reason:
        return release.model_copy(update={"image": image}), Gate(
            f"readiness overridden ({release.readiness_override_reason}): {problem}", overridden=problem
        )
    raise AirflowFailException(
        f"nothing was touched: {problem}. Run the DAG {plan.readiness_dag_id} for {release.version} until it passes, "
        "or set readiness_override_reason, which is recorded and announced"
    )


def _is_built_later(plan: Plan, image: str) -> bool:
    """Whether the deployment makes this image itself; one that is asked for by its digest has to be there."""
    return plan.image.build is not None and not ImageReference.parse(image).digest
