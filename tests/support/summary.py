"""What a suite says of itself at its end: schedules and inputs that were tried, and time that nobody waited for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest

from tests.support.fuzz import SURFACES, Examples

FUZZ, SCHEDULES, VIRTUAL = "fuzz", "schedules", "virtual seconds"
"""Properties that tests record; those of every process reach the one that reports."""


class Summary:
    def __init__(self) -> None:
        self.schedules = self.violations = 0
        self.seconds = self.virtual = self.real = 0.0
        self.fuzzed = {one: Counter[str]() for one in SURFACES}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if call.when == "call" and (mark := item.get_closest_marker("fuzz")):
            report.user_properties.append((FUZZ, [mark.args[0], Examples.taken()]))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        said = dict(report.user_properties)
        if report.when == "call" and SCHEDULES in said:
            self.schedules += int(str(said[SCHEDULES]))
            self.violations += report.failed
            self.seconds += report.duration
        if report.when == "call" and FUZZ in said:
            surface, examples = said[FUZZ]  # type: ignore[misc]
            self.fuzzed[str(surface)] += Counter(tests=1, examples=int(examples), failures=int(report.failed))
        if report.when == "teardown" and VIRTUAL in said:
            virtual, real = said[VIRTUAL]  # type: ignore[misc]
            self.virtual += float(virtual)
            self.real += float(real)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if any(self.fuzzed.values()):
            columns = ("tests", "examples", "failures")
            terminalreporter.write_line("written by others".ljust(20) + "".join(f"{name:>10}" for name in columns))
            for surface, counted in self.fuzzed.items():
                terminalreporter.write_line(surface.ljust(20) + "".join(f"{counted[name]:>10}" for name in columns))
        if self.schedules:
            tried = f"{self.schedules} schedules in {self.seconds:.0f} s of one process"
            terminalreporter.write_line(f"simulation: {tried}, {self.violations} violations")
        if self.real:
            passed = f"{self.virtual:.0f} s in {self.real:.1f} s"
            terminalreporter.write_line(f"virtual time: {passed}, {self.virtual / self.real:.0f} a second")
