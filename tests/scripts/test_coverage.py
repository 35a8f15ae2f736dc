"""Every line of the deployment plan is covered, by tasks and tests that are there; and what is not is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.readiness import checklist
from scripts.coverage import book, facts, join, render
from scripts.coverage.__main__ import DOCUMENT, ROOT
from scripts.coverage.book import CoverageError, Entry
from scripts.coverage.facts import Kind, Task
from scripts.coverage.lines import PlanLine, PlanTextError, lines

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
TEXT = (ROOT / "docs" / "deployment-plan.md").read_text()
OPEN = {"Data gradually migrated in background"}
"""What nothing covers today. Whoever adds a line here hides nothing: docs/coverage.md begins with them."""


@pytest.fixture(scope="module")
def tasks():
    return facts.tasks(ROOT / "dags")


@pytest.fixture(scope="module")
def tests():
    return facts.tests(ROOT / "tests")


@pytest.fixture(scope="module")
def sections():
    entries = book.load(ROOT / "docs" / "coverage.yaml")
    return {**book.of_readiness(checklist.load(PLAN), entries.readiness), **entries.sections}


@pytest.fixture(scope="module")
def joined(tasks, tests, sections):
    """Joins text and entries with the repository's tasks and tests."""
    return lambda text=TEXT, entries=sections, known=tasks: join.rows(lines(text), entries, known, tests, "pms_")


# --- the repository


def test_every_line_of_the_plan_is_covered_and_the_document_says_by_what(joined):
    assert DOCUMENT.read_text() == render.document(joined()), "docs/coverage.md is old: renew it with `make coverage`"


def test_what_nothing_covers_is_known_by_name(joined):
    assert {row.line.text for row in joined() if row.entry.open} == OPEN


def test_every_other_line_has_a_task_and_a_test(joined):
    rows = [row for row in joined() if not (row.entry.open or row.entry.about)]
    assert len(rows) > 300
    assert all(row.tasks and row.entry.tests for row in rows)


# --- it can fail


def test_a_new_line_of_the_plan_is_missed(joined):
    with pytest.raises(CoverageError, match=r"nothing covers: Health Check Command: Ring the bell"):
        joined(TEXT + "\n- [ ] Ring the bell\n")


def test_a_changed_line_is_missed_and_its_entry_left_over(joined):
    with pytest.raises(CoverageError) as error:
        joined(TEXT.replace("- [ ] Update status page", "- [ ] Update the status page"))
    assert "nothing covers: Step 6: Post-Rollback Actions: Update the status page" in str(error.value)
    assert "no such line in the plan: Step 6: Post-Rollback Actions: Update status page" in str(error.value)


def test_a_line_whose_entry_is_taken_away_is_missed(joined, sections):
    with pytest.raises(CoverageError) as error:
        joined(entries={title: found[1:] for title, found in sections.items()})
    assert len(str(error.value).splitlines()) == len(sections)


def test_a_task_that_is_gone_is_missed(joined, tasks):
    without = {name: dict(found) for name, found in tasks.items()}
    del without["pms_deployment"]["phase_3_database_migration.execute_migration"]
    with pytest.raises(CoverageError, match="no such task: deployment:execute_migration"):
        joined(known=without)


LINE = PlanLine("S", "Do it")
ASKED = Task("pms_deployment.g.ask", Kind.ASKED, "Asks.", "Lead", "Is it done?\n- Do that")
TASKS = {"pms_deployment": {"g.do": Task("pms_deployment.g.do", Kind.AUTOMATED, "Does."), "g.ask": ASKED}}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tasks": ("deployment:dance",)}, "no such task: deployment:dance"),
        ({"tasks": ("party:do",)}, "no such task: party:do"),
        ({"tests": ("a/test_b::test_d",)}, "no such test: a/test_b::test_d"),
        ({"line": "Do that"}, "nothing covers: S: Do it\nno such line in the plan: S: Do that"),
        ({"tasks": ("deployment:ask",)}, "not asked: 'Do it'"),
        ({"tasks": ("deployment:ask",), "asked_as": "Do this"}, "not asked: 'Do this'"),
    ],
)
def test_an_entry_that_names_what_is_not_there_is_refused(change, says):
    good = {"line": "Do it", "tasks": ("deployment:do",), "tests": ("a/test_b::test_c",)}
    join.rows([LINE], {"S": [Entry(**good)]}, TASKS, {"a/test_b::test_c"}, "pms_")
    with pytest.raises(CoverageError) as error:
        join.rows([LINE], {"S": [Entry(**{**good, **change})]}, TASKS, {"a/test_b::test_c"}, "pms_")
    assert says in str(error.value)


def test_a_task_has_to_be_named_so_that_there_is_one():
    twice = {"pms_deployment": {name: Task(name, Kind.AUTOMATED, "") for name in ("a.do", "b.do")}}
    entry = Entry(line="Do it", tasks=("deployment:do",), tests=("t",))
    with pytest.raises(CoverageError, match="several tasks are: deployment:do"):
        join.rows([LINE], {"S": [entry]}, twice, {"t"}, "pms_")


@pytest.mark.parametrize(
    "wrong",
    [
        {}, {"tasks": ["a:b"]}, {"tests": ["a::b"]}, {"about": "so", "open": "so"},
        {"tasks": ["a:b"], "tests": ["a::b"], "open": "not yet"},
        {"tasks": ["a:b"], "tests": ["a::b"], "colour": "red"},
    ],
)  # fmt: skip
def test_an_entry_stands_in_exactly_one_way(tmp_path: Path, wrong):
    import yaml

    file = tmp_path / "coverage.yaml"
    file.write_text(yaml.safe_dump({"readiness": {}, "sections": {"S": [{"line": "Do it", **wrong}]}}))
    with pytest.raises(CoverageError, match=r"coverage\.yaml"):
        book.load(file)


def test_a_kind_of_check_without_tests_is_refused():
    entries = book.load(ROOT / "docs" / "coverage.yaml")
    less = {kind: found for kind, found in entries.readiness.items() if kind != "jwt_secret"}
    with pytest.raises(CoverageError, match="is judged by jwt_secret, which has no tests"):
        book.of_readiness(checklist.load(PLAN), less)


# --- the text


TEXT_OF_ALL_KINDS = """# Plan

**Status**: Ready

## Steps
- **Backup**: off-site
  - [ ] Check it
1. ✅ First
**Success Criteria**:
- Good

| Role | Duty |
|------|------|
| **Lead** | Decides |

```bash
# Above a command it is its title
run \\
  --now        # fast
SELECT a
FROM b;

# Alone it is a line
```

```
Code & Testing:
- [ ] Tested
```
"""


def test_every_kind_of_line_is_found():
    assert [line.text for line in lines(TEXT_OF_ALL_KINDS)] == [
        "Status: Ready", "Backup: off-site", "Check it", "First", "Good", "Lead | Decides", "run --now # fast",
        "SELECT a FROM b;", "Alone it is a line", "Tested",
    ]  # fmt: skip
    assert {line.section for line in lines(TEXT_OF_ALL_KINDS)} == {"Plan", "Steps"}


def test_no_word_of_the_plan_is_lost_but_in_headings_labels_and_titles():
    """What the parser leaves out is what it says it leaves out."""
    found = "\n".join(line.text for line in lines(TEXT))
    for mark in ("- [ ] ", "✅ "):
        for line in TEXT.splitlines():
            if line.strip().startswith(mark):
                assert " ".join(line.strip().removeprefix(mark).replace("**", "").split()) in found
    assert len(lines(TEXT)) == 344


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("# A\n- x\n# A\n- y\n", "two sections are called 'A'"),
        ("# A\n- x\n- x\n", "A: twice: x"),
        ("# A\n```\nx\n", "has no end"),
    ],
)
def test_a_text_whose_lines_cannot_be_told_apart_is_refused(text, says):
    with pytest.raises(PlanTextError, match=says):
        lines(text)


def test_what_stands_in_a_table_breaks_no_table():
    row = join.Row(PlanLine("S", "a | <b>"), Entry(line="a | <b>", tasks=("d:t",), tests=("t",)), (ASKED,))
    (line,) = [one for one in render.document([row]).splitlines() if one.startswith("| a ")]
    assert line == "| a \\| &lt;b> | `pms_deployment.g.ask` | asked: Lead | `t` |"
