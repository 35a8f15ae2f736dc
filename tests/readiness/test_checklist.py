"""The checklist as data: every line of the plan is in it, word for word, and each is judged in exactly one way."""

from __future__ import annotations

import pytest
import yaml

from handover.cli.readiness import main
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.plan.parts import PLANS_VARIABLE
from handover.readiness.checklist import ChecklistError, load
from scripts.plan_lines import lines

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
TEXT = (INCLUDE.parent / "docs" / "deployment-plan.md").read_text()


def test_every_line_of_the_plan_has_an_entry_in_its_order():
    found = [
        (section.title, one.line)
        for section in load(PLAN).sections
        for line in section.lines
        for one in (line, *line.parts)
    ]
    titles = {title for title, _ in found}
    assert found == [one for one in lines(TEXT) if one[0] in titles]
    assert len(found) == 62


def test_eight_sections_with_checks_and_questions():
    checklist = load(PLAN)
    assert len(checklist.sections) == 8
    assert len(checklist.leaves) == 58
    assert {role: len(lines) for role, lines in checklist.asked().items()} == {"lead": 4, "devops": 1, "frontend": 3}
    assert all(leaf.owner in PLAN.team for leaf in checklist.leaves)


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """Loads the checklist after a change of its first line."""
    data = yaml.safe_load((INCLUDE / "readiness" / "pms.yaml").read_text())

    def load_with(**change):
        data["sections"][0]["lines"][0] |= change
        folder = tmp_path / "readiness"
        folder.mkdir(exist_ok=True)
        (folder / "pms.yaml").write_text(yaml.safe_dump(data))
        monkeypatch.setenv(PLANS_VARIABLE, str(tmp_path / "plans"))
        return load(PLAN)

    return load_with


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"checks": []}, "needs exactly one of"),
        ({"ask": "Is it?"}, "needs exactly one of"),
        ({"checks": [{"kind": "magic"}]}, "magic"),
        ({"checks": [{"kind": "check_runs", "connection": "c", "repository": "a/b"}]}, "names"),
        ({"checks": [{"kind": "check_runs", "repository": "a/b", "names": ["lint"]}]}, "connection: Field required"),
        ({"checks": [], "step": "dance"}, "no step 'dance'"),
        ({"owner": "nobody"}, "no role nobody"),
        ({"owner": ""}, "needs an owner"),
        ({"id": "lint"}, "two lines are called lint"),
        ({"after": "tomorrow"}, "no line tomorrow"),
        ({"colour": "green"}, "Extra inputs"),
    ],
)
def test_a_wrong_checklist_names_file_and_reason(broken, change, says):
    with pytest.raises(ChecklistError, match=says) as error:
        broken(**change)
    assert "pms.yaml" in str(error.value)


def test_text_that_is_not_yaml_is_an_error_with_its_file(tmp_path, monkeypatch):
    (tmp_path / "readiness").mkdir()
    (tmp_path / "readiness" / "pms.yaml").write_text("sections: [")
    monkeypatch.setenv(PLANS_VARIABLE, str(tmp_path / "plans"))
    with pytest.raises(ChecklistError, match=r"pms\.yaml"):
        load(PLAN)


def test_the_table_in_the_documentation_is_that_of_the_checklist(capsys):
    assert main("readiness", ["--plan", "pms"]) == 0
    table = capsys.readouterr().out
    assert f"<!-- table -->\n{table}<!-- /table -->" in (INCLUDE.parent / "docs" / "readiness.md").read_text()
