"""Processes of Python models that ended, and the sentence about one."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from operations.server import distribution
from operations.server.stubs import describe_end, ended_children

LOADING = 'I1130 02:03:50.148280 24129 model_lifecycle.cc:472] "loading: candidate_sampler:2"'


@pytest.mark.parametrize(("script", "code"), [("exit 127", 127), ("kill -9 $$", -signal.SIGKILL)])
def test_a_child_that_ended_unnoticed_is_found_with_its_exit_code(script: str, code: int) -> None:
    child = subprocess.Popen(["sh", "-c", script])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it stays as it is
    assert ended_children(os.getpid())[child.pid] == code
    child.wait()
    assert child.pid not in ended_children(os.getpid())


def test_the_sentence_quotes_the_process_and_not_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both stubs of the ensemble print the same line; what stands before the loading is none of theirs."""
    monkeypatch.setattr(distribution, "_release", lambda: {"ID": "debian", "VERSION_ID": "12"})
    loader = "stub: error while loading shared libraries: libpython3.11.so.1.0: no such file"
    log = ["Error: Failed to initialize NVML", LOADING, loader, "| table |", loader, LOADING]
    assert describe_end(127, log, "3.11") == (
        "the process of a Python model ended with 127 while tritonserver loaded it: "
        f"{loader}; apt-get install libpython3.11"
    )


def test_a_killed_process_may_have_said_nothing() -> None:
    assert describe_end(-9, [LOADING], "3.11") == (
        "the process of a Python model was killed by signal 9 (the kernel kills so when memory runs out) "
        "while tritonserver loaded it: it printed nothing"
    )
