"""What a suite says of itself at its end: schedules that were tried, and time that passed without anybody waiting."""

from __future__ import annotations

from typing import Any

import pytest

SCHEDULES, VIRTUAL = "schedules", "virtual seconds"
"""Properties that tests record; those of every process reach the one that reports."""


class Summary:
    def __init__(self) -> None:
        self.schedules = self.violations = 0
        self.seconds = self.virtual = self.real = 0.0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        said = dict(report.user_properties)
        if report.when == "call" and SCHEDULES in said:
            self.schedules += int(str(said[SCHEDULES]))
            self.violations += report.failed
            self.seconds += report.duration
        if report.when == "teardown" and VIRTUAL in said:
            virtual, real = said[VIRTUAL]  # type: ignore[misc]
            self.virtual += float(virtual)
            self.real += float(real)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.schedules:
            tried = f"{self.schedules} schedules in {self.seconds:.0f} s of one process"
            terminalreporter.write_line(f"simulation: {tried}, {self.violations} violations")
        if self.real:
            passed = f"{self.virtual:.0f} s in {self.real:.1f} s"
            terminalreporter.write_line(f"virtual time: {passed}, {self.virtual / self.real:.0f} a second")
