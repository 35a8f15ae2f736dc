"""Every line of the deployment plan is proved by a test, asked of somebody, or explained; and what is not is said."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import yaml

from scripts.plan_lines import DOCUMENT, ROOT, PlanError, lines, page

BOOK = yaml.safe_load((ROOT / "scripts" / "plan_lines.yaml").read_text())


def test_every_line_of_the_plan_is_answered_and_the_page_says_by_what(tmp_path):
    """In a process of its own, which collects all tests whatever this session was started with."""
    made = tmp_path / "coverage.md"
    ran = subprocess.run(
        [sys.executable, "-m", "scripts.plan_lines", made], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": "plugins:config:."},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert made.read_text() == DOCUMENT.read_text(), "docs/coverage.md is old: renew it with `make coverage`"


def test_no_line_is_open():
    assert not [why for why in BOOK["instead"] if "Open" in why]


# --- it can fail

PLAN = [("S", "Do it"), ("S", "Do it twice"), ("S", "Rest")]
NOTHING = {"instead": {}, "asked": {}, "besides": {}}


def made(marks=(), questions=None, plan=PLAN, **book):
    return page(plan, {words: ["a.py"] for words in marks}, questions or {}, NOTHING | book)


def test_a_line_is_answered_by_a_mark_a_question_or_a_reason():
    found = made(["Do it", "Do it t"], {"Is there any Rest?": "Lead"})
    assert "| Do it | `a.py` |  |" in found and "| Do it twice | `a.py` |  |" in found
    assert "| Rest |  | asked: Lead |" in found
    assert "| Rest |  | Nobody can. |" in made(["Do it", "Do it t"], instead={"Nobody can.": ["R"]})
    stands_for = made(["Do it", "Do it t"], {"A pause?": "Lead"}, asked={"pause": ["Rest"]})
    assert "| Rest |  | asked: Lead |" in stands_for


@pytest.mark.parametrize(
    ("marks", "book", "says"),
    [
        (["Do it", "Do it t"], {}, "nothing answers: S: Rest"),
        (["Do it", "Do it t"], {"besides": {"Why not.": ["Rest"]}}, "nothing answers: S: Rest"),
        (["Do it", "Do it t", "Rest", "Dance"], {}, "no line of the plan begins with: Dance"),
        (["Do it", "Do it t", "Rest", "Do"], {}, "several lines begin with: Do"),
        (["Do it", "Do it t"], {"instead": {"Why not.": ["Dance"]}}, "no line of the plan begins with: Dance"),
        (["Do it", "Do it t"], {"asked": {"pause": ["Rest"]}}, "nobody is asked: pause"),
    ],
)
def test_what_is_not_answered_or_no_line_is_told(marks, book, says):
    with pytest.raises(PlanError) as error:
        made(marks, **book)
    assert says in str(error.value).splitlines()


def test_what_stands_in_a_table_breaks_no_table():
    assert "| a \\| &lt;b> | `a.py` |  |" in made(["a"], plan=[("S", "a | <b>")])


# --- the text


TEXT = """# Plan

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
WHERE b;

# Alone it is a line
```

```
Code & Testing:
- [ ] Tested
```
"""


def test_every_kind_of_line_is_found():
    assert list(lines(TEXT)) == [
        ("Plan", "Status: Ready"), ("Steps", "Backup: off-site"), ("Steps", "Check it"), ("Steps", "First"),
        ("Steps", "Good"), ("Steps", "Lead | Decides"), ("Steps", "run --now # fast"), ("Steps", "SELECT a WHERE b;"),
        ("Steps", "Alone it is a line"), ("Steps", "Tested"),
    ]  # fmt: skip


def test_no_point_of_the_plan_is_lost():
    text = (ROOT / "docs" / "deployment-plan.md").read_text()
    found = "\n".join(line for _, line in lines(text))
    points = re.findall(r"^ *(?:- \[ \]|- ✅|-|\d+\.) (.+)", text, re.MULTILINE)
    assert len(points) > 200
    assert [point for point in points if " ".join(point.replace("**", "").split()) not in found] == []
