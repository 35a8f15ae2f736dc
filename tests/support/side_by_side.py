"""Which tests share a process when several run side by side (pytest-xdist's ``--dist loadscope``)."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

RUNS, SCHEDULES = "tests/runs/", "tests/simulation/"


class SideBySide(LoadScopeScheduling):
    """A file's tests share its fixtures, whole runs share one sandbox; schedules share nothing."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(RUNS):
            return RUNS
        return nodeid if nodeid.startswith(SCHEDULES) else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SideBySide:
    return SideBySide(config, log)
