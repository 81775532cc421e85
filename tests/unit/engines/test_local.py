"""The engine of one machine gives the same results from any number of processes, or one sentence."""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from export_scripts.engines.interface import Engine, WorkerLost, in_order
from export_scripts.engines.local import PREFIX, open_local
from operations.errors import CestaError
from tests import ROOT
from tests.unit.engines import partitions as work

RANGES = [range(start, start + 10) for start in range(0, 100, 10)]


def until(is_true: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def processes() -> Engine:
    with open_local(2) as engine:
        yield engine


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_results_come_in_the_order_of_the_partitions(workers: int) -> None:
    """0 + 1 + … + 9 = 45, and each range adds 100 to the one before."""
    with open_local(workers) as engine:
        assert list(engine.map(work.add, RANGES, np.arange(100))) == [45 + 100 * k for k in range(10)]


def test_processes_share_the_memory_of_arrays(processes: Engine) -> None:
    """An array is mapped read-only, aligned to 64 bytes, and not in this process."""
    told = list(processes.map(work.tell_memory, range(4), np.arange(100)))
    assert {(writeable, start % 64) for _, writeable, start in told} == {(False, 0)}
    assert os.getpid() not in {pid for pid, _, _ in told}


def test_a_value_of_one_map_is_not_that_of_the_next(processes: Engine) -> None:
    assert list(processes.map(work.add, [range(3)], np.arange(3))) == [3]
    assert list(processes.map(work.add, [range(3)], np.arange(3) * 2)) == [6]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_for_the_user_arrives_as_its_sentence(workers: int) -> None:
    with open_local(workers) as engine:
        results = engine.map(work.refuse_the_third, range(9), None)
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(CestaError, match=r"^the third partition has no lines; leave it out$"):
            next(results)


def test_a_full_disk_arrives_as_a_sentence(processes: Engine, tmp_path: Path) -> None:
    with pytest.raises(CestaError, match=f"^{tmp_path}: No space left on device; "):
        list(processes.map(work.fill_the_disk, range(3), tmp_path))


def test_a_defect_keeps_its_type(processes: Engine) -> None:
    with pytest.raises(ZeroDivisionError):
        list(processes.map(work.divide, [1, 0], 5))


def test_a_killed_process_ends_in_a_sentence_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with open_local(2) as engine, pytest.raises(CestaError, match="worker processes was killed"):
        list(engine.map(work.die_once, range(9), tmp_path / "died"))
    assert (tmp_path / "died").exists()
    assert not list(tmp_path.glob(f"{PREFIX}*"))


def test_processes_that_hang_end_in_a_sentence() -> None:
    others = set(multiprocessing.active_children())
    with open_local(2, patience=1) as engine, pytest.raises(CestaError, match="no partition for 1 seconds, "):
        list(engine.map(work.hang, range(2), None))
    assert set(multiprocessing.active_children()) == others


def test_partitions_that_wait_for_one_another_are_computed_together(
    processes: Engine, tmp_path: Path
) -> None:
    assert processes.available() == 2
    assert processes.together(work.meet, range(2), tmp_path) == [0, 1]


def test_the_first_error_ends_those_that_wait(processes: Engine, tmp_path: Path) -> None:
    with pytest.raises(CestaError, match=r"^the third partition has no lines; leave it out$") as raised:
        processes.together(work.fail_beside_one_that_waits, range(2), tmp_path)
    assert not isinstance(raised.value, WorkerLost)  # which would be tried again


def test_a_killed_process_is_a_lost_worker(processes: Engine, tmp_path: Path) -> None:
    with pytest.raises(WorkerLost, match=r"^one of 2 worker processes was killed$"):
        processes.together(work.die_beside_one_that_waits, range(2), tmp_path)


def test_few_results_wait_for_the_caller() -> None:
    """At most two of six partitions are submitted before their results are taken."""
    submitted: list[int] = []
    futures = in_order(lambda k: submitted.append(k) or k, range(6), most=2)
    assert next(futures) == 0
    assert submitted == [0, 1]
    assert list(futures) == [1, 2, 3, 4, 5]


def test_processes_end_with_a_killed_parent(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from export_scripts.engines.local import open_local\n"
        "from tests.unit.engines.partitions import wait_for\n"
        "if __name__ == '__main__':\n"
        f"    with open_local(2) as engine: list(engine.map(wait_for, range(2), Path({str(tmp_path)!r})))\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, script], env=environment)
    files = [tmp_path / "pid-0", tmp_path / "pid-1"]
    until(lambda: all(file.exists() and file.read_text() for file in files))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    workers = [Path("/proc") / file.read_text() for file in files]
    until(lambda: not any(worker.exists() for worker in workers))
    assert [worker for worker in workers if worker.exists()] == []
