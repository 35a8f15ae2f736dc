"""What covers each line of the plan: docs/coverage.yaml as data, and the lines that the readiness checklist answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, model_validator

from handover.readiness.checklist import Checklist, ChecklistSection, Line

Text = Annotated[str, StringConstraints(min_length=3)]
ASKED = "ask"
"""Key of `Book.readiness` for lines that people are asked about."""


class CoverageError(ValueError):
    """The coverage is not whole; the text names every line, task and test that is wrong."""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Entry(Frozen):
    """What covers one line of the plan, word for word.

    ``tasks``: ``<dag>:<task>``, the DAG's id without the plan's name, the task's as far as it is unique. ``tests``:
    ``<file below tests, without .py>::<function>``. ``asked_as``: the question's own words, where they are not the
    plan's. ``note``: what a reader would miss. ``about``: why nobody has to do anything; ``open``: why nothing covers
    it yet. Exactly one of ``tasks``, ``about`` and ``open`` says how the line stands.
    """

    line: Text
    tasks: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    asked_as: str = ""
    note: str = ""
    about: str = ""
    open: str = ""

    @model_validator(mode="after")
    def _stands_in_one_way(self) -> Entry:
        if sum(map(bool, (self.tasks, self.about, self.open))) != 1:
            raise ValueError(f"{self.line!r}: needs exactly one of tasks, about and open")
        if bool(self.tasks) != bool(self.tests):
            raise ValueError(f"{self.line!r}: has tasks without tests, or tests without tasks")
        return self


class Book(Frozen):
    """``sections``: the plan's headings with their lines. ``readiness``: kind of check or step to its tests."""

    readiness: dict[str, tuple[str, ...]]
    sections: dict[str, tuple[Entry, ...]]


def load(path: Path) -> Book:
    """The file. Raises `CoverageError` with its name and every reason."""
    try:
        return Book.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise CoverageError(f"{path}: {error}") from None
    except ValidationError as error:
        reasons = "\n".join(f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
        raise CoverageError(f"{path}:\n{reasons}") from None


def of_readiness(checklist: Checklist, tests: dict[str, tuple[str, ...]]) -> dict[str, tuple[Entry, ...]]:
    """The sections of the plan that are the readiness checklist's own: its tasks, and the tests of what judges them.
    Raises `CoverageError` for a kind of check without tests.
    """
    return {section.title: tuple(_entries(section, tests)) for section in checklist.sections}


def _entries(section: ChecklistSection, tests: dict[str, tuple[str, ...]]) -> Iterator[Entry]:
    for line in section.lines:
        for one in (line, *line.parts):
            leaves = list(one.leaves)
            yield Entry(
                line=one.line,
                tasks=tuple(dict.fromkeys(_task(section, leaf) for leaf in leaves)),
                tests=tuple(dict.fromkeys(test for leaf in leaves for test in _tests(leaf, tests))),
                asked_as=one.ask,
            )


def _task(section: ChecklistSection, leaf: Line) -> str:
    return f"readiness:people.{leaf.owner}" if leaf.ask else f"readiness:{section.id}.{leaf.id}"


def _tests(leaf: Line, tests: dict[str, tuple[str, ...]]) -> Iterator[str]:
    kinds = [ASKED] if leaf.ask else [leaf.step] if leaf.step else [check.kind for check in leaf.checks]
    for kind in kinds:
        if not tests.get(kind):
            raise CoverageError(f"readiness: {leaf.line!r} is judged by {kind}, which has no tests")
        yield from tests[kind]
