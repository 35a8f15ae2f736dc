"""Letters that wait for their redelivery are sealed by whoever wrote them: XComs and runs may be written by anybody
with edit rights, and only what this system left undelivered is sent in its name.
"""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from handover.models.message import Letter
from handover.outside import outside

if TYPE_CHECKING:
    from handover.plan.model import Plan
    from handover.ports.airflow import AirflowApi

log = logging.getLogger(__name__)


def sealed(plan: Plan, letters: Sequence[Letter]) -> list[Letter]:
    """The same letters, to be left for the redelivery. Where nothing can be sealed they are left without, and then
    nobody sends them: these are only messages.
    """
    try:
        airflow = outside().airflow(plan.rollback.airflow_connection)
        return [letter.model_copy(update={"seal": seal_of(airflow, letter)}) for letter in letters]
    except Exception as error:
        log.warning("%d messages cannot be tried again: %s: %s", len(letters), type(error).__name__, error)
        return list(letters)


def seal_of(airflow: AirflowApi, letter: Letter, deployment: str | None = None) -> str:
    """Of a letter as it was written, or with the ``deployment`` under whose name its redelivery is recorded."""
    read = Letter.model_validate_json(letter.model_dump_json())  # numbers as they are when they come back
    said = json.dumps(read.model_dump(mode="json", exclude={"seal"}), sort_keys=True)
    return airflow.seal(f"letter {said}" if deployment is None else f"redelivery {json.dumps(deployment)} {said}")


def is_sealed(airflow: AirflowApi, letter: Letter, seal: str, deployment: str | None = None) -> bool:
    """Whether it was `seal_of` that gave this seal."""
    return hmac.compare_digest(seal_of(airflow, letter, deployment).encode(), seal.encode())
