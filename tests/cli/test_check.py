"""`python -m handover check`: whether plan files can be used, and what they come to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from handover.__main__ import main
from handover.plan.load import load_plan
from handover.plan.measures import measures_of
from handover.plan.model import INCLUDE
from handover.plan.parts import PLANS_VARIABLE

PMS = INCLUDE / "plans" / "pms.yaml"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The only plans of this Airflow."""
    monkeypatch.setenv(PLANS_VARIABLE, str(tmp_path))
    shutil.copy(PMS, tmp_path / "pms.yaml")
    return tmp_path


def other(folder: Path, **changes: object) -> Path:
    """A second plan, the same but for some sections."""
    data = yaml.safe_load(PMS.read_text())
    for section, values in changes.items():
        data[section] = data[section] | values if isinstance(values, dict) else values
    file = folder / "other.yaml"
    file.write_text(yaml.safe_dump(data))
    return file


def test_a_good_plan_is_told_in_full(folder, capsys):
    assert main(["check"]) == 0
    text = capsys.readouterr().out
    plan = load_plan(PMS)
    for word in (*plan.connections, *(one.name for one in measures_of(plan)), plan.deployment_dag_id):
        assert word in text
    assert "monitoring     critical: ask, high: note" in text


def test_the_same_for_programs(folder, capsys):
    assert main(["check", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["plans"]
    assert told["on_breach"]["testing"] == dict.fromkeys(("critical", "high", "medium", "low"), "abort")
    assert {"name": "replication_lag_seconds", "source": "database", "limit": "above 2 s"}.items() <= {
        **next(one for one in told["measures"] if one["source"] == "database")
    }.items()


def test_a_broken_plan_is_told_by_file_line_and_key_beside_good_ones(folder, capsys):
    text = PMS.read_text().replace("  replicas: 2\n", "  replicas: two\n")
    (folder / "web.yaml").write_text(text)
    line = text.splitlines().index("  replicas: two") + 1
    assert main(["check"]) == 1
    said = capsys.readouterr()
    assert said.out.startswith("pms: ")
    assert f"web.yaml:{line}: cluster.replicas: Input should be a valid integer" in said.err


@pytest.mark.parametrize(("changes", "said"), [
    ({}, "has the name pms, as "), ({"name": "shop"}, "has the lock pms-deployment of production, as "),
    ({"name": "shop", "cluster": {"app": "shop"}}, ""), ({"name": "shop", "cluster": {"namespace": "shop"}}, ""),
])  # fmt: skip
def test_two_plans_of_one_airflow_must_not_be_in_each_others_way(folder, changes, said, capsys):
    other(folder, **changes)
    assert main(["check"]) == (1 if said else 0)
    assert said in capsys.readouterr().err


def test_a_plan_that_is_not_there_is_no_good_plan(folder, capsys):
    assert main(["check", "--plan", "none"]) == main(["check", "--plan", str(folder / "none.yaml")]) == 2
    (folder / "pms.yaml").unlink()
    assert main(["check"]) == 2
    assert "there is no plan" in capsys.readouterr().err
