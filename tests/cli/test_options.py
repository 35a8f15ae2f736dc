"""What several commands are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from handover.cli.options import only_plan, plan_file
from handover.plan.load import PlanError
from handover.plan.parts import PLANS_VARIABLE


def test_the_plan_need_not_be_said_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.setenv(PLANS_VARIABLE, str(tmp_path))
    with pytest.raises(PlanError, match=r"say --plan NAME: the plans in .* are none"):
        only_plan()
    (tmp_path / "web.yaml").touch()
    assert only_plan() == tmp_path / "web.yaml"
    (tmp_path / "api.yaml").touch()
    with pytest.raises(PlanError, match="are api, web"):
        only_plan()


def test_a_plan_is_a_file_or_the_name_of_one(tmp_path, monkeypatch):
    monkeypatch.setenv(PLANS_VARIABLE, str(tmp_path))
    assert plan_file("web") == tmp_path / "web.yaml"
    for path in ("web.yaml", "web.yml", "plans/web", "/etc/web.plan"):
        assert plan_file(path) == Path(path)
