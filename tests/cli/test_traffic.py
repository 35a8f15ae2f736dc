"""The commands for traffic: which plan they are told."""

from __future__ import annotations

import pytest

from handover import __main__
from handover.cli import traffic
from handover.plan.model import INCLUDE
from handover.plan.parts import PLANS_VARIABLE


@pytest.mark.parametrize("command", ["back", "status"])
@pytest.mark.parametrize("given", ["pms", str(INCLUDE / "plans" / "pms.yaml")], ids=["name", "file"])
def test_the_plan_is_a_file_or_its_name_as_everywhere(monkeypatch, command, given):
    """``python -m handover back --plan web --reason x`` is what docs/adopt.md tells people in need."""
    asked: list[str] = []

    async def run(command, plan, arguments):
        asked.append(f"{command} {plan.name}")
        return 0

    monkeypatch.setattr(traffic, "_run", run)
    assert __main__.main([command, "--plan", given]) == 0
    assert asked == [f"{command} pms"]


@pytest.mark.parametrize("command", ["back", "status", "watch"])
def test_a_name_that_no_plan_has_is_refused_with_where_it_was_looked_for(tmp_path, monkeypatch, capsys, command):
    monkeypatch.setenv(PLANS_VARIABLE, str(tmp_path))
    assert __main__.main([command, "--plan", "web"]) == 1
    assert f"refused: {tmp_path / 'web.yaml'}: " in capsys.readouterr().err
