"""The plan's pre-deployment checklist as data: every line of it, and what checks it or who is asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import yaml
from pydantic import Field, StringConstraints, ValidationError, model_validator

from handover.plan.parts import Name, Section, included
from handover.plan.text import from_yaml
from handover.readiness.kinds import AnyCheck

if TYPE_CHECKING:
    from handover.plan.model import Plan

STEPS = frozenset({"data_checks", "rehearsal", "replication_lag", "tested_backup"})
"""Lines that a step of another concern covers; `handover.workflows.readiness.dag` makes them."""


class ChecklistError(ValueError):
    """A checklist is wrong; the text names file, line and reason."""


class Line(Section):
    """One line of the plan, verbatim, or one beside it. Exactly one of ``checks``, ``step``, ``ask`` and ``parts`` says
    how it is judged.

    ``owner``: the role that must act when it is not a pass, and who is asked; ``ask``: the question, in words that can
    be answered with yes; ``after``: the line whose task must have ended before.
    """

    id: Name
    line: Annotated[str, StringConstraints(min_length=3)]
    owner: str = ""
    checks: tuple[AnyCheck, ...] = ()
    step: str = ""
    ask: str = ""
    after: str = ""
    parts: tuple[Line, ...] = ()

    @model_validator(mode="after")
    def _judged_in_one_way(self) -> Line:
        ways = [way for way in ("checks", "step", "ask", "parts") if getattr(self, way)]
        if len(ways) != 1:
            raise ValueError(f"{self.id}: needs exactly one of checks, step, ask and parts, has {ways or 'none'}")
        if self.step and self.step not in STEPS:
            raise ValueError(f"{self.id}: there is no step {self.step!r}, only {', '.join(sorted(STEPS))}")
        if not self.parts and not self.owner:
            raise ValueError(f"{self.id}: needs an owner")
        return self

    @property
    def leaves(self) -> Iterator[Line]:
        """The line itself, or those that it is made of."""
        if not self.parts:
            yield self
        for part in self.parts:
            yield from part.leaves


class ChecklistSection(Section):
    """``besides``: lines that the plan does not have, and that count as its own do."""

    id: Name
    title: str
    lines: Annotated[tuple[Line, ...], Field(min_length=1)]
    besides: tuple[Line, ...] = ()

    @property
    def leaves(self) -> list[Line]:
        return [leaf for line in (*self.lines, *self.besides) for leaf in line.leaves]


class Checklist(Section):
    sections: Annotated[tuple[ChecklistSection, ...], Field(min_length=1)]

    @property
    def leaves(self) -> list[Line]:
        return [leaf for section in self.sections for leaf in section.leaves]

    @model_validator(mode="after")
    def _ids_are_known_and_unique(self) -> Checklist:
        ids = [leaf.id for leaf in self.leaves]
        if doubled := sorted({one for one in ids if ids.count(one) > 1}):
            raise ValueError(f"two lines are called {', '.join(doubled)}")
        if lost := sorted({leaf.after for leaf in self.leaves if leaf.after} - set(ids)):
            raise ValueError(f"after: there is no line {', '.join(lost)}")
        return self

    def asked(self) -> dict[str, list[Line]]:
        """Role to the lines that it is asked about."""
        found: dict[str, list[Line]] = {}
        for leaf in self.leaves:
            if leaf.ask:
                found.setdefault(leaf.owner, []).append(leaf)
        return found


def _read(path: Path) -> object:
    """The file's data without keys that begin with ``x-``, which only hold what others refer to."""
    data = from_yaml(path.read_text(encoding="utf-8"))
    if not isinstance(data, dict):
        return data
    return {key: value for key, value in data.items() if not str(key).startswith("x-")}


def load(plan: Plan) -> Checklist:
    """The checklist of a plan. Raises `ChecklistError`."""
    path: Path = included("readiness", plan.readiness.checklist)
    try:
        checklist = Checklist.model_validate(_read(path))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ChecklistError(f"{path}: {error}") from None
    except ValidationError as error:
        reasons = "\n".join(
            f"  {'.'.join(map(str, e['loc'])) or 'checklist'}: {e['msg']}" for e in error.errors(include_url=False)
        )
        raise ChecklistError(f"{path}:\n{reasons}") from None
    if strangers := sorted({leaf.owner for leaf in checklist.leaves} - plan.team.keys()):
        raise ChecklistError(f"{path}: owner: no role {', '.join(strangers)} in the plan's team")
    return checklist
