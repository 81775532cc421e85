"""Which exit codes of a verb are worth a second try, and what a time limit ends."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

from tests import ROOT
from tests.flows.prefect_server import PrefectServer, is_alive

HERE = Path(__file__).parent


class Case(NamedTuple):
    """A script in the place of `cesta`, the state of its task, and how often it runs."""

    script: str
    state: str
    tries: int
    limit_s: float = 60


CASES = {
    "success": Case("exit 0", "Completed", 1),
    "an answer": Case("exit 4", "Completed", 1),
    "a refusal": Case("exit 3", "Failed", 1),
    "a mistyped option": Case("exit 2", "Failed", 1),
    "a failure": Case("exit 1", "Failed", 3),
    "no memory": Case("kill -9 $$", "Failed", 3),
    "a hanging verb": Case("exec sleep 600", "TimedOut", 3, limit_s=2),
}


def test_refusals_are_not_repeated_and_a_time_limit_ends_the_verb(
    prefect: PrefectServer, tmp_path: Path
) -> None:
    commands: list[Path] = []
    for name, case in CASES.items():
        command = tmp_path / name.replace(" ", "-")
        command.write_text(f"#!/bin/sh\necho $$ >> {command}.tries\n{case.script}\n")
        command.chmod(0o755)
        commands.append(command)
    words = [prefect.local.interpreter, HERE / "exit_codes.py", ROOT / "export_scripts/flows"]
    for case, command in zip(CASES.values(), commands, strict=True):
        words += [str(case.limit_s), command]
    done = subprocess.run(
        words, env=dict(prefect.local.variables), capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    states = [line.removeprefix("STATE ") for line in done.stdout.splitlines() if "STATE" in line]
    pids = [Path(f"{command}.tries").read_text().split() for command in commands]
    found = [(state, len(tries)) for state, tries in zip(states, pids, strict=True)]
    assert found == [(case.state, case.tries) for case in CASES.values()]
    assert [pid for pid in pids[-1] if is_alive(int(pid))] == []
