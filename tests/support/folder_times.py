"""A plugin for pytest: processor seconds of the tests of each folder, printed at the end."""

from __future__ import annotations

import os
from collections import Counter

import pytest


def cpu_seconds() -> float:
    """Of this process and of the children that it has waited for."""
    return sum(os.times()[:4])


class FolderTimes:
    """Workers note seconds on the reports that they send; the process that prints adds them up."""

    def __init__(self) -> None:
        self._last = cpu_seconds()
        self._seconds: Counter[str] = Counter()
        self._tests: Counter[str] = Counter()

    def pytest_runtest_logstart(self) -> None:
        self._last = cpu_seconds()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> object:
        """Setup, call and teardown of a test each end with a report."""
        report = yield
        now = cpu_seconds()
        report.cpu_seconds = now - self._last
        self._last = now
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        folder = folder_of(report.nodeid)
        self._seconds[folder] += getattr(report, "cpu_seconds", 0.0)  # a crashed worker sends none
        self._tests[folder] += report.when == "call"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("processor seconds by folder")
        for folder, seconds in self._seconds.most_common():
            line = f"{folder:<24}{self._tests[folder]:>6} tests{seconds:>9.1f} s"
            terminalreporter.write_line(line)
        tests, seconds = self._tests.total(), self._seconds.total()
        terminalreporter.write_line(f"{'in all':<24}{tests:>6} tests{seconds:>9.1f} s")


def folder_of(nodeid: str) -> str:
    """`tests/ir` of `tests/ir/test_graph.py::test_x`."""
    return nodeid.partition("::")[0].rpartition("/")[0] or "."
