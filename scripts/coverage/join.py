"""Every line of the plan beside what covers it. Pure; whatever does not fit is told, all of it at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from scripts.coverage.book import CoverageError, Entry
from scripts.coverage.facts import Kind, Task
from scripts.coverage.lines import PlanLine


@dataclass(frozen=True)
class Row:
    """One line of the plan with its tasks, in the order in which the entry names them."""

    line: PlanLine
    entry: Entry
    tasks: tuple[Task, ...]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What is done to it, without repetition; empty for a line that no task covers."""
        return tuple(kind for kind in Kind if any(task.kind is kind for task in self.tasks))


def rows(
    plan: Sequence[PlanLine],
    sections: Mapping[str, Sequence[Entry]],
    tasks: Mapping[str, Mapping[str, Task]],
    tests: set[str],
    prefix: str,
) -> list[Row]:
    """One row for each line of the plan, in its order. ``prefix``: what DAG ids begin with.

    Raises `CoverageError` with every line without an entry, entry without a line, task, test or wording of a question
    that is not there.
    """
    wanted = {(section, entry.line): entry for section, entries in sections.items() for entry in entries}
    wrong = [f"twice: {section}: {text}" for section, text in _doubled(sections)]
    found: list[Row] = []
    for line in plan:
        entry = wanted.pop((line.section, line.text), None)
        if entry is None:
            wrong.append(f"nothing covers: {line.section}: {line.text}")
            continue
        row = Row(line, entry, tuple(_tasks(entry, tasks, prefix, wrong)))
        wrong += [f"no such test: {test} ({line.text})" for test in entry.tests if test not in tests]
        wrong += _unasked(row)
        found.append(row)
    wrong += [f"no such line in the plan: {section}: {text}" for section, text in wanted]
    if wrong:
        raise CoverageError("\n".join(wrong))
    return found


def _doubled(sections: Mapping[str, Sequence[Entry]]) -> Iterator[tuple[str, str]]:
    for section, entries in sections.items():
        texts = [entry.line for entry in entries]
        yield from ((section, text) for text in sorted({one for one in texts if texts.count(one) > 1}))


def _tasks(entry: Entry, tasks: Mapping[str, Mapping[str, Task]], prefix: str, wrong: list[str]) -> Iterator[Task]:
    for name in entry.tasks:
        dag, _, task = name.partition(":")
        known = tasks.get(f"{prefix}{dag}", {})
        fits = [task] if task in known else [one for one in known if one.endswith(f".{task}")]
        if len(fits) == 1:
            yield known[fits[0]]
        else:
            wrong.append(f"{'several tasks are' if fits else 'no such task'}: {name} ({entry.line})")


def _unasked(row: Row) -> Iterator[str]:
    """A question covers a line only if it asks for it: in the plan's words, or in those that the entry gives."""
    asked = [task for task in row.tasks if task.kind is Kind.ASKED]
    words = row.entry.asked_as or row.line.text
    if asked and not any(words in task.wording for task in asked):
        yield f"not asked: {words!r} in {', '.join(task.id for task in asked)} ({row.line.text})"
