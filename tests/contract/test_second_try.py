"""`make test` tries what failed once more: bad luck passes then and is named, and a fault fails twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.second_try import MOST_FILES

UNLUCKY = '''
import os, pathlib, pytest

@pytest.fixture(scope="module")
def server():
    """Starts at the second time only."""
    marker = pathlib.Path("started-once")
    assert marker.exists() or marker.touch()

@pytest.mark.parametrize("name", ["a b", "§ [x]::y"])
def test_unlucky(server, name):
    pass

def test_that_is_alone():
    assert "PYTEST_XDIST_WORKER" not in os.environ

def test_good():
    marker = pathlib.Path("good")
    assert not marker.exists()
    marker.touch()
'''
BROKEN = "def test_broken():\n    assert False\n"
SHARED = ["--run", "planted", "-p xdist --numprocesses 1 --dist loadfile test_unlucky.py"]
NOTICES = [
    r"passed only at the second try: test_unlucky.py::test_unlucky[a b]",
    r"passed only at the second try: test_unlucky.py::test_unlucky[\xa7 [x]::y]",
    r"passed only at the second try: test_unlucky.py::test_that_is_alone",
]


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_unlucky.py").write_text(UNLUCKY)
    return tmp_path


def run(folder: Path, *runs: str) -> tuple[int, str]:
    words = [sys.executable, "-m", "tests.second_try", f"--reports={folder / 'reports'}", *runs, "--", "-q"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }  # each start takes seconds else
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_a_test_that_passes_alone_fails_no_run_and_is_named(planted: Path) -> None:
    """A server that started late, and a test that other tests disturbed. What passed is not run again."""
    code, text = run(planted, *SHARED)
    assert code == 0, text
    assert all(f"\n{notice}\n" in text for notice in NOTICES), text
    written = (planted / "reports" / "planted-second-try.txt").read_text()
    assert sorted(written.splitlines()) == sorted(NOTICES)
    assert 'tests="3"' in (planted / "reports" / "planted-second-try.xml").read_text()
    assert 'tests="4"' in (planted / "reports" / "planted.xml").read_text()


def test_a_test_that_fails_twice_fails_the_run(planted: Path) -> None:
    (planted / "test_broken.py").write_text(BROKEN)
    code, text = run(planted, *SHARED, "--run", "planted-alone", "test_broken.py")
    assert code == 1
    assert "\nfailed twice: test_broken.py::test_broken\n" in text
    assert all(f"\n{notice}\n" in text for notice in NOTICES), text


def test_many_failures_and_a_file_that_cannot_be_read_have_no_second_try(planted: Path) -> None:
    """The report of an earlier run does not stay."""
    old = planted / "reports" / "many-second-try.txt"
    old.parent.mkdir()
    old.touch()
    for number in range(MOST_FILES + 1):
        (planted / f"test_{number}.py").write_text(BROKEN)
    code, text = run(planted, "--run", "many", "--ignore test_unlucky.py .")
    assert (code, f"tests of {MOST_FILES + 1} files failed" in text) == (1, True)
    assert not old.exists()
    (planted / "test_unreadable.py").write_text("import nothing_of_this_name\n")
    code, text = run(planted, "--run", "unreadable", "test_unreadable.py")
    assert (code, "second try" in text) == (2, False)
