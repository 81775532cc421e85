"""Lines that cannot be written are lost, and nothing else: a process ends with the code that it chose."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests import ROOT

ENDS = """
import sys
from operations.log_stream import LogStream, announce, drop_unwritten
announce("ready")
print("working", file=LogStream(), flush=True)
drop_unwritten(sys.stderr)
sys.exit(int(sys.argv[1]))
"""


@pytest.mark.parametrize("output", [">/dev/full 2>/dev/full", ">&- 2>&-", "2>/dev/full", ">/dev/null"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("code", [0, 3])
def test_lines_that_cannot_be_written_change_no_exit_code(output: str, unbuffered: str, code: int) -> None:
    """Python itself would write what is left in its buffers once more, fail, and exit with 120."""
    done = subprocess.run(
        ["sh", "-c", f'"$@" {output}', "sh", sys.executable, "-c", ENDS, str(code)],
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == code


def test_a_command_that_cannot_log_ends_with_its_own_code() -> None:
    """The sentence of an error is lost, its code is not."""
    command = [sys.executable, "-m", "operations.cli", "release", "list", "--repository=/nowhere"]
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            command,
            env=os.environ | {"PYTHONUNBUFFERED": ""},
            stderr=full,
            stdout=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 1
