"""``python -m scripts.coverage`` writes docs/coverage.md, or says what is not covered."""

from __future__ import annotations

import sys
from pathlib import Path

from handover.plan.load import load_plan
from handover.readiness import checklist
from scripts.coverage import book, facts, join, render
from scripts.coverage.lines import lines

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "coverage.md"


def whole() -> list[join.Row]:
    """Every line of the repository's plan with what covers it. Raises `CoverageError`, or an error of what it reads."""
    plan = load_plan(ROOT / "include" / "plans" / "pms.yaml")
    entries = book.load(ROOT / "docs" / "coverage.yaml")
    sections = {**book.of_readiness(checklist.load(plan), entries.readiness), **entries.sections}
    text = (ROOT / "docs" / "deployment-plan.md").read_text(encoding="utf-8")
    return join.rows(lines(text), sections, facts.tasks(ROOT / "dags"), facts.tests(ROOT / "tests"), f"{plan.name}_")


def main() -> int:
    try:
        made = render.document(whole())
    except book.CoverageError as error:
        print(error, file=sys.stderr)
        return 1
    DOCUMENT.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
