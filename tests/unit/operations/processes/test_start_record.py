"""A start clears what a killed program has left, and nothing else: not by its name, not by its number."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from operations.errors import CestaError
from operations.processes import start_record
from operations.processes.identity import identify
from operations.processes.start_record import StartRecord
from tests.running.processes import Watched

Start = Callable[..., tuple["subprocess.Popen[bytes]", list[Watched]]]

# Starts a program on a record, tells its process, and waits to be killed.
OWNER = """
import sys
from pathlib import Path
from operations.processes.start_record import StartRecord
record = StartRecord(Path(sys.argv[1]), "the program")
with open(sys.argv[1] + ".out", "wb") as output:
    program = record.start(["/bin/sh", "-c", sys.argv[2]], Path.cwd(), output)
while b"up" not in Path(sys.argv[1] + ".out").read_bytes():
    pass
print(program.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def record(tmp_path: Path) -> StartRecord:
    return StartRecord(tmp_path / "program.started", "the program")


@pytest.fixture
def start(record: StartRecord) -> Iterator[Start]:
    """Start a shell on the record; return it and the two processes that it has forked."""
    programs = []

    def begin(trap: str = "") -> tuple[subprocess.Popen[bytes], list[Watched]]:
        reader, writer = os.pipe()
        script = f"{trap} sleep 60 & echo $!; {trap} sleep 60 & echo $!; wait"
        with os.fdopen(reader, "rb") as lines, os.fdopen(writer, "wb") as output:
            programs.append(record.start(["/bin/sh", "-c", script], Path.cwd(), output))
            forked = [Watched(int(lines.readline())) for _ in range(2)]
        return programs[-1], forked

    yield begin
    for program in programs:
        program.kill()
        program.wait()
    record.clear()


def test_what_a_killed_program_left_is_ended(record: StartRecord, start: Start) -> None:
    """The name of the program does not matter. Afterwards the record is gone, and the next start succeeds."""
    program, forked = start()
    program.kill()
    program.wait()
    assert sorted(record.clear()) == sorted(child.pid for child in forked)
    assert [child.ended(0) for child in forked] == [True, True]
    assert not record.path.exists()
    assert record.clear() == []
    start()


def test_a_process_that_ignores_the_signal_is_killed(
    record: StartRecord, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start_record, "GRACE_S", 0.1)
    program, forked = start("trap '' TERM;")
    program.kill()
    program.wait()
    assert len(record.clear()) == 2
    assert [child.ended(0) for child in forked] == [True, True]


@pytest.mark.parametrize("leads_a_session", [True, False])
def test_another_process_with_the_recorded_number_is_left_alone(
    record: StartRecord, start: Start, leads_a_session: bool
) -> None:
    """The kernel has given the number to a stranger since."""
    program, forked = start()
    program.kill()
    program.wait()
    with subprocess.Popen(["sleep", "60"], start_new_session=leads_a_session) as stranger:
        recorded = json.loads(record.path.read_text())
        kept = recorded["program"] | {"pid": stranger.pid}
        record.path.write_text(json.dumps(recorded | {"program": kept}))
        try:
            assert record.clear() == []
            assert stranger.poll() is None
        finally:
            stranger.kill()
            for child in forked:
                os.kill(child.pid, signal.SIGKILL)


def test_a_reader_of_the_record_is_left_alone(record: StartRecord, start: Start) -> None:
    """A stranger may have the file open, in a session of its own."""
    program, _ = start()
    with (
        record.path.open() as standing_open,
        subprocess.Popen(["sleep", "60"], stdin=standing_open) as reader,
    ):
        program.kill()
        program.wait()
        try:
            assert reader.pid not in record.clear()
            assert reader.poll() is None
        finally:
            reader.kill()


def test_a_program_whose_owner_lives_is_refused_and_left_alone(record: StartRecord, start: Start) -> None:
    program, _ = start()
    with pytest.raises(CestaError, match=rf"the program already runs on .*process {os.getpid()} \("):
        record.clear()
    assert program.poll() is None


def test_a_program_ends_with_its_owner(record: StartRecord) -> None:
    """The kernel tells it, and the next owner finds nothing that is left."""
    with running_owner(record, "echo up; exec sleep 60") as (owner, program):
        with pytest.raises(CestaError, match=rf"started by process {owner.pid} \("):
            record.clear()
        owner.kill()
        assert program.ended(5)
    assert record.clear() == []


def test_a_program_that_outlives_its_owner_is_cleared(
    record: StartRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ignores the kernel's signal."""
    monkeypatch.setattr(start_record, "GRACE_S", 0.1)
    with running_owner(record, "trap '' TERM; echo up; sleep 60; sleep 60") as (owner, program):
        owner.kill()
        owner.wait()
        assert not program.ended(0)
        assert program.pid in record.clear()
        assert program.ended(0)


def test_a_program_that_ended_before_it_wrote_leaves_no_record(record: StartRecord, start: Start) -> None:
    """The record of a later start stays."""
    program, forked = start()
    for child in forked:
        os.kill(child.pid, signal.SIGKILL)
    written = record.path.read_text()
    record.path.write_text("")
    record.clear_rest(program)
    assert not record.path.exists()
    record.path.write_text(written)
    with subprocess.Popen(["true"]) as another:
        record.clear_rest(another)
    assert record.path.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"program": {}}', '{"program": 1, "owner": 2}'])
def test_a_record_that_was_not_finished_is_removed(record: StartRecord, text: str) -> None:
    record.path.write_text(text)
    assert record.clear() == []
    assert not record.path.exists()


def test_a_record_of_another_boot_names_nobody(record: StartRecord) -> None:
    """After a power cut the numbers may be those of other processes."""
    me = identify(os.getpid())
    assert me is not None
    before = asdict(me) | {"boot": "another"}
    record.path.write_text(json.dumps({"program": before, "owner": before}))
    assert record.clear() == []


class running_owner:  # noqa: N801 - a block, not a value
    """Run a program whose owner is a process of its own; the block gets both."""

    def __init__(self, record: StartRecord, script: str) -> None:
        self._owner = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(record.path), script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> tuple[subprocess.Popen[bytes], Watched]:
        assert self._owner.stdout
        return self._owner, Watched(int(self._owner.stdout.readline()))

    def __exit__(self, *_: object) -> None:
        self._owner.kill()
        self._owner.communicate()
