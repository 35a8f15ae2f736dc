"""The lines of docs/deployment-plan.md, the tests that prove them (``pytest.mark.plan``), and the people who are asked.

``python -m scripts.plan_lines [FILE]`` writes docs/coverage.md, or says which lines nothing answers, and fails.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "coverage.md"
HEAD = """# Coverage of the plan

Every line of [the deployment plan](deployment-plan.md) with the tests (below `tests/`) that name it in
`pytest.mark.plan`, the roles that a question of the DAGs asks for it, and what `scripts/plan_lines.yaml` says of it.
Made by `make coverage`; `tests/scripts/test_plan_lines.py` fails when nothing answers a line, a mark names no line, or
this page is old. Whether a test proves its line is for people to judge."""
FENCE = re.compile(r"^```(\w*)\n", re.MULTILINE)
CONTINUED = re.compile(r" *\\\n|\n(?=WHERE )")
TITLES = re.compile(r"^((#|//|--) .*\n)+(?=[\w@])", re.MULTILINE)  # above a command: only says what it is
TABLE_HEAD = re.compile(r"^\|.*\n\|[-| ]+\|$", re.MULTILINE)
HEADING = re.compile(r"#{1,6} (.+)")
NO_LINE = re.compile(r"|-{3,}|\*\*.+\*\*:|\*\*.+:\*\*|[A-Z].*:")  # nothing, a rule, or a label of the lines below
BULLET = re.compile(r"^(- \[ \]|-|\d+\.|#|//|--) +(✅ )?")
Words = Mapping[str, Sequence[str]]


class PlanError(ValueError):
    """Lines that nothing answers and words of no line, all of them; or tests that cannot be collected."""


def lines(text: str) -> Iterator[tuple[str, str]]:
    """Heading and text of every line that somebody or something has to see to, in the plan's order."""
    section = ""
    first, *rest = FENCE.split(text)
    for language, body in [("", first), *zip(rest[::2], rest[1::2], strict=True)]:
        whole = TITLES.sub("", CONTINUED.sub(" ", body)) if language else TABLE_HEAD.sub("", body)
        for line in map(str.strip, whole.splitlines()):
            if not language and (heading := HEADING.fullmatch(line)):
                section = heading[1]
            elif language or not NO_LINE.fullmatch(line):
                cells = " | ".join(map(str.strip, line.strip("|").split("|"))) if line.startswith("|") else line
                if bare := " ".join(BULLET.sub("", cells).replace("**", "").split()):
                    yield section, bare


class Marks:
    """A plugin of pytest: the words in the marks of the tests that it collects, with the files of these tests."""

    def __init__(self) -> None:
        self.found: dict[str, set[str]] = defaultdict(set)

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        for words in itertools.chain.from_iterable(mark.args for mark in item.iter_markers("plan")):
            self.found[words].add(item.path.relative_to(ROOT / "tests").as_posix())


def marks() -> Words:
    """What all tests of the repository name. Raises `PlanError`."""
    plugin = Marks()
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = pytest.main(["--collect-only", "-qq", str(ROOT / "tests")], plugins=[plugin])
    if code is not pytest.ExitCode.OK:
        raise PlanError(said.getvalue())
    return {words: sorted(files) for words, files in plugin.found.items()}


def questions() -> dict[str, str]:
    """All that is written in each question of the DAGs, and the role that is asked it."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.providers.standard.operators.hitl import HITLOperator

    found = {}
    for dag in DagBag(ROOT / "dags", bundle_path=ROOT / "dags").dags.values():
        for task in (task for task in dag.tasks if isinstance(task, HITLOperator)):
            fields = [task.params.get_param(name) for name in task.params]
            said = [task.subject, task.body, *(f"{field.schema.get('title')}\n{field.description}" for field in fields)]
            found["\n".join(filter(None, said))] = task.assigned_users[0]["name"] if task.assigned_users else "anybody"
    return found


def page(plan: Sequence[tuple[str, str]], marked: Words, asked: Mapping[str, str], book: Mapping[str, Words]) -> str:
    """docs/coverage.md. Raises `PlanError`; ``book``: the content of plan_lines.yaml."""
    texts, wrong = dict.fromkeys(text for _, text in plan), list[str]()
    tests, more = defaultdict[str, set[str]](set), defaultdict[str, list[str]](list)

    def named(words: str) -> str:
        fits = [words] if words in texts else [text for text in texts if text.startswith(words)]
        if len(fits) != 1:
            wrong.append(f"{'several lines begin' if fits else 'no line of the plan begins'} with: {words}")
        return fits[0] if fits else ""

    for words, files in marked.items():
        tests[named(words)].update(files)
    for question, stands_for in [*((text, [text]) for text in texts), *book["asked"].items()]:
        roles = sorted({f"asked: {role}" for said, role in asked.items() if question in said})
        wrong += [] if roles or question in texts else [f"nobody is asked: {question}"]
        for text in map(named, stands_for):
            more[text] += roles
    for why, about in book["instead"].items():
        for text in map(named, about):
            more[text].append(why)
    wrong += [f"nothing answers: {section}: {text}" for section, text in plan if not tests[text] and not more[text]]
    for why, about in book["besides"].items():
        for text in map(named, about):
            more[text].append(why)
    if wrong:
        raise PlanError("\n".join(wrong))
    made = [HEAD]
    for section, group in itertools.groupby(plan, key=lambda line: line[0]):
        made += [f"\n## {section}\n", "| line of the plan | tests | what else |", "|---|---|---|"]
        for text in (text for _, text in group):
            proofs = "<br>".join(f"`{file}`" for file in sorted(tests[text]))
            made.append(f"| {_cell(text)} | {proofs} | {_cell(' '.join(more[text]))} |")
    return "\n".join(made) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main(document: Path = DOCUMENT) -> int:
    book = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    plan = list(lines((ROOT / "docs" / "deployment-plan.md").read_text(encoding="utf-8")))
    try:
        document.write_text(page(plan, marks(), questions(), book), encoding="utf-8")
    except PlanError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
