"""docs/coverage.md, from the rows. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from scripts.coverage.facts import Kind, Task
from scripts.coverage.join import Row

HEAD = """# Coverage of the plan

Every line of [the deployment plan](deployment-plan.md), what covers it, and its test. Made by `make coverage` from the
plan's text, the DAGs, `include/readiness/pms.yaml` and `docs/coverage.yaml`. `tests/scripts/test_coverage.py` fails
when a line has nothing, when a task or test that is named is not there, when a question does not ask for its line, or
when this file is not the one that would be made now. Whether a test proves its line is for people to judge.

*Automated*: the system does it. *Asked*: a role of the plan answers, and the answer is on record. *Handed over*: the
system opens a ticket or sends an invitation, and people do the rest. Tests are below `tests/`.
"""
NOTHING = "nothing"


def document(rows: Sequence[Row]) -> str:
    """The whole file."""
    parts = [HEAD, *_totals(rows), *_open(rows)]
    for section, found in itertools.groupby(rows, key=lambda row: row.line.section):
        parts += ["", f"## {section}", "", "| line of the plan | covered by | how | test |", "|---|---|---|---|"]
        parts += [_row(row) for row in found]
    return "\n".join([*parts, *_tasks(rows)]) + "\n"


def _totals(rows: Sequence[Row]) -> Iterator[str]:
    covered = [row for row in rows if row.tasks]
    several = [row for row in covered if len(row.kinds) > 1]
    yield "| lines | |\n|---|---|"
    yield f"| of the plan | {len(rows)} |"
    for kind in Kind:
        yield f"| {kind} only | {sum(row.kinds == (kind,) for row in covered)} |"
    yield f"| in more than one of these ways | {len(several)} |"
    yield f"| that ask nothing of anybody | {sum(bool(row.entry.about) for row in rows)} |"
    yield f"| open: nothing covers them | {sum(bool(row.entry.open) for row in rows)} |"


def _open(rows: Sequence[Row]) -> Iterator[str]:
    found = [row for row in rows if row.entry.open]
    if found:
        yield "\n## Open\n"
        yield from (f"- **{row.line.text}** ({row.line.section}): {row.entry.open}" for row in found)


def _row(row: Row) -> str:
    entry = row.entry
    if not row.tasks:
        how = f"**open**: {entry.open}" if entry.open else f"{NOTHING} to do: {entry.about}"
        return f"| {_cell(row.line.text)} | | {_cell(how)} | |"
    tasks = "<br>".join(f"`{task.id}`" for task in row.tasks)
    tests = "<br>".join(f"`{test}`" for test in entry.tests)
    how = "<br>".join(filter(None, (*_how(row), _cell(entry.note))))
    return f"| {_cell(row.line.text)} | {tasks} | {how} | {tests} |"


def _how(row: Row) -> Iterator[str]:
    for kind in row.kinds:
        who = dict.fromkeys(task.who for task in row.tasks if task.kind is kind and task.who)
        yield f"{kind}: {', '.join(who)}" if who else kind


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _tasks(rows: Sequence[Row]) -> Iterator[str]:
    """What each task is, once."""
    named: dict[str, Task] = {task.id: task for row in rows for task in row.tasks}
    yield "\n## The tasks\n\n| task | what it is |\n|---|---|"
    yield from (f"| `{name}` | {_cell(named[name].how)} |" for name in sorted(named))
