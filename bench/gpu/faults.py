"""An illegal access or a failed launch on a GPU spoils the context of its process, so that every later call of the
process fails too, whatever it asks for. Only another process can go on.

As a plugin of pytest, `-p bench.gpu.faults -n N`, this ends a process of pytest-xdist whose context a test has spoiled;
xdist starts another one for the tests that are left. It also lets a run fail in which no test has passed, so that a
suite that was skipped whole is not taken for a good one.
"""

import os
import sys

import pytest


def spoiled() -> bool:
    """Return whether a fault has spoiled the context of this process."""
    torch = sys.modules.get("torch")  # Only its context is looked at, and a process without torch has none.
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Worker() if hasattr(config, "workerinput") else Whole())


class Worker:
    """The plugin of a process of pytest-xdist."""

    @pytest.hookimpl(trylast=True)  # after xdist has sent the report to the process that collects them
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and spoiled():
            os._exit(1)


class Whole:
    """The plugin of the process that sees all reports."""

    @pytest.hookimpl(tryfirst=True)  # before the summary, which names the exit status
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None and not reporter.stats.get("passed"):
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
            reporter.write_line("no test has passed, so this run has failed")
