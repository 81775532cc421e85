"""Runs pytest, and then once more, with no other test beside it, each test that failed.

    python -m tests.second_try --reports FOLDER --run NAME OPTIONS [--run NAME OPTIONS] -- OPTIONS OF ALL RUNS

A test that failed and then passed is named on the terminal and in FOLDER/NAME-second-try.txt. The exit code
is 0 if each test has passed once. docs/decisions/0124-failed-tests-have-a-second-try.md has the reasons.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

PLUGIN = "tests.second_try"
MOST_FILES = 20  # failures in more than these are not bad luck
OK, TESTS_FAILED = int(pytest.ExitCode.OK), int(pytest.ExitCode.TESTS_FAILED)

Outcomes = dict[str, str]  # node id → "passed", "failed" or "skipped"


# ---- as a plugin, in the process of each run


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--outcomes", type=Path, help="write the outcome of each test to this file, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """Register the recorder; the processes of pytest-xdist leave it to the one that they report to."""
    if (file := config.getoption("--outcomes")) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(file))


class Recorder:
    """Keeps the outcome of each test: failed if its set-up, its call or its tear-down failed."""

    def __init__(self, file: Path) -> None:
        self._file, self._outcomes = file, Outcomes()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._outcomes[report.nodeid] = "failed"
        elif report.when != "teardown" and self._outcomes.get(report.nodeid) != "failed":
            self._outcomes[report.nodeid] = report.outcome

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._outcomes[report.nodeid] = "failed"

    def pytest_sessionfinish(self) -> None:
        self._file.write_text(json.dumps(self._outcomes))


# ---- as a program


def main(words: Sequence[str] | None = None) -> int:
    """Run all; return the exit code: 0, or that of pytest."""
    given = parse(words)
    again = given.reports / f"{given.run[0][0]}-second-try.xml"
    for before in (again, again.with_suffix(".txt")):
        before.unlink(missing_ok=True)
    worst, outcomes = OK, Outcomes()
    for name, options in given.run:
        code, found = run_pytest(shlex.split(options), given.options, given.reports / f"{name}.xml")
        worst, outcomes = max(worst, code), outcomes | found
    failed = [node for node, outcome in outcomes.items() if outcome == "failed"]
    if worst != TESTS_FAILED or not failed:
        return worst  # no failed test explains another code
    files = {node.partition("::")[0] for node in failed}
    if len(files) > MOST_FILES:
        print(
            f"no second try: tests of {len(files)} files failed, at most {MOST_FILES} files are tried again"
        )
        return worst
    return try_again(failed, given.options, again)


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.second_try")
    parser.add_argument("--reports", type=Path, required=True)
    parser.add_argument("--run", nargs=2, action="append", required=True, metavar=("NAME", "OPTIONS"))
    parser.add_argument("options", nargs="*", help="of all runs, after --")
    return parser.parse_args(words)


def run_pytest(options: Sequence[str], of_all: Sequence[str], report: Path) -> tuple[int, Outcomes]:
    """Return the exit code, and what was recorded: nothing if pytest has crashed."""
    with tempfile.TemporaryDirectory() as folder:
        recorded = Path(folder) / "outcomes.json"
        words = [sys.executable, "-m", "pytest", "-p", PLUGIN, f"--outcomes={recorded}"]
        code = subprocess.call([*words, f"--junit-xml={report}", *of_all, *options])
        outcomes = json.loads(recorded.read_text()) if recorded.exists() else Outcomes()
    return (128 - code if code < 0 else code), outcomes  # a signal's number as a shell tells it


def try_again(failed: Sequence[str], of_all: Sequence[str], report: Path) -> int:
    """Run these tests alone and say which of them passed; one that is skipped now has not passed."""
    print(f"\nsecond try, alone, of what failed ({len(failed)}):", *failed, sep="\n  ", flush=True)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as nodes:
        nodes.write("\n".join(failed))
        nodes.flush()
        code, outcomes = run_pytest([f"@{nodes.name}"], of_all, report)
    passed = [node for node in failed if outcomes.get(node) == "passed"]
    notices = [f"passed only at the second try: {node}" for node in passed]
    notices += [f"failed twice: {node}" for node in failed if node not in passed]
    report.with_suffix(".txt").write_text("\n".join([*notices, ""]))
    print("", *notices, sep="\n", flush=True)
    return code if len(passed) == len(failed) else max(code, TESTS_FAILED)


if __name__ == "__main__":
    sys.exit(main())
