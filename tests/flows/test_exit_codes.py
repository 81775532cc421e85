"""Which exit codes of a verb are worth a second try, and what a time limit ends."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import ROOT
from tests.flows.prefect_server import PrefectServer, is_alive

HERE = Path(__file__).parent


def run_command(prefect: PrefectServer, folder: Path, script: str, limit_s: float = 60) -> tuple[str, int]:
    """Run a command in the place of `cesta`: the state of its task, and how often it ran."""
    tries = folder / "tries"
    command = folder / "cesta"
    command.write_text(f"#!/bin/sh\necho $$ >> {tries}\n{script}\n")
    command.chmod(0o755)
    words = [prefect.local.interpreter, str(HERE / "exit_codes.py"), str(ROOT / "export_scripts" / "flows")]
    variables = {**prefect.local.variables, "CESTA_COMMAND": str(command)}
    done = subprocess.run([*words, str(limit_s)], env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    state = next(line.removeprefix("STATE ") for line in done.stdout.splitlines() if "STATE" in line)
    return state, len(tries.read_text().splitlines())


@pytest.mark.parametrize(
    ("script", "state", "tries"),
    [
        ("exit 0", "Completed", 1),
        ("exit 4", "Completed", 1),  # an answer
        ("exit 3", "Failed", 1),  # a refusal
        ("exit 2", "Failed", 1),  # a mistyped option
        ("exit 1", "Failed", 3),
        ("kill -9 $$", "Failed", 3),  # out of memory
    ],
)
def test_refusals_are_not_repeated(
    prefect: PrefectServer, tmp_path: Path, script: str, state: str, tries: int
) -> None:
    assert run_command(prefect, tmp_path, script) == (state, tries)


def test_a_time_limit_ends_the_verb(prefect: PrefectServer, tmp_path: Path) -> None:
    state, tries = run_command(prefect, tmp_path, "exec sleep 60", limit_s=2)
    assert (state, tries) == ("TimedOut", 3)
    assert [pid for pid in (tmp_path / "tries").read_text().split() if is_alive(int(pid))] == []
