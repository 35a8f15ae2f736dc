"""The people of the plan: its roles, what they are asked, and who is told when they do not answer."""

from __future__ import annotations

import itertools
from typing import Annotated

from pydantic import Field, model_validator

from pms.plan.parts import Items, Seconds, Section

Share = Annotated[float, Field(gt=0, lt=1)]


class Role(Section):
    title: str
    users: Annotated[tuple[str, ...], Field(min_length=1)]
    escalates_to: str | None = None


class Question(Section):
    """Something that a person confirms (1.3 and 4.3)."""

    role: str
    response_seconds: Seconds
    items: Items


class Asking(Section):
    """What happens while a question waits, as shares of the time that it waits for."""

    reminders: tuple[Share, ...] = ()
    """When the role is told again."""
    escalates_at: Share | None = None
    """When it is the turn of the role above (``escalates_to``), which is told then and may answer as well; without,
    nobody but the role may answer."""

    @model_validator(mode="after")
    def _in_order(self) -> Asking:
        if any(later <= earlier for earlier, later in itertools.pairwise(self.reminders)):
            raise ValueError("reminders must be in order, each one once")
        return self
