"""A server is all the processes that it started, wherever they moved."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.running.processes import MarkedProcesses, NotReadyError

LEAVES_A_DAEMON = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
sum(range(3_000_000))
print("ready", flush=True)
time.sleep(60)
"""


def test_daemons_are_counted_and_end_with_their_server(tmp_path: Path) -> None:
    with MarkedProcesses([sys.executable, "-c", LEAVES_A_DAEMON], {}, tmp_path) as processes:
        processes.wait_ready(lambda: "ready" in processes.log, timeout_s=20)
        processes.wait_ready(lambda: len(processes.pids()) == 2, timeout_s=20)
        pids = processes.pids()
        assert os.getpid() not in pids
        assert sum(processes.cpu().values()) > 0
        assert processes.pss_mib() > 1
        processes.stop()
        assert not [pid for pid in pids if Path(f"/proc/{pid}/exe").exists()]


def test_an_adopted_process_is_counted_with_its_children(tmp_path: Path) -> None:
    """nginx is started apart and writes over its mark; it is not ended with the others."""
    with (
        subprocess.Popen(["sh", "-c", "sleep 60 & echo ready; wait"], stdout=subprocess.PIPE) as other,
        MarkedProcesses([sys.executable, "-c", "import time; time.sleep(60)"], {}, tmp_path) as processes,
    ):
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        processes.adopt(other.pid)
        (child,) = Path(f"/proc/{other.pid}/task/{other.pid}/children").read_text().split()
        assert {other.pid, int(child), *processes.pids()} == set(processes.cpu())
        processes.stop()
        assert other.poll() is None
        os.kill(int(child), signal.SIGTERM)


def test_one_that_ends_while_starting_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such release')"]
    with (
        MarkedProcesses(command, {}, tmp_path) as processes,
        pytest.raises(NotReadyError, match="ended while starting: no such release"),
    ):
        processes.wait_ready(lambda: False, timeout_s=20)


def test_a_program_that_is_told_to_end_takes_its_server_along(tmp_path: Path) -> None:
    """It receives SIGTERM, which `make` and service managers send."""
    program = (
        "import pathlib, sys, time\n"
        "from loadtests.running.processes import MarkedProcesses, stop_on_sigterm\n"
        "stop_on_sigterm()\n"
        "command = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        f"with MarkedProcesses(command, {{}}, pathlib.Path({str(tmp_path)!r})) as server:\n"
        "    while not (pids := server.pids()):\n"  # it has just begun
        "        time.sleep(0.01)\n"
        "    print(*pids, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        server = int(running.stdout.readline())
        assert Path(f"/proc/{server}/exe").exists()
        running.terminate()
        assert running.wait(20) != 0
    assert not Path(f"/proc/{server}/exe").exists()
