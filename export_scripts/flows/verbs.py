"""Runs a verb of the `cesta` command in its own environment, and tells a refusal from a failure.

CESTA_COMMAND names the command. By default it is the one of this checkout's environment, or that of PATH.
"""

import asyncio
import os
import shutil
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

CHECKOUT: Final = Path(__file__).resolve().parents[2]
GRACE_S: Final = 20.0  # from SIGTERM to SIGKILL
LONGEST_LINE: Final = 2**20  # bytes
USAGE: Final = 2  # exit code for a mistyped option

Log = Callable[[str], object]


class Done(NamedTuple):
    """A verb that has ended: its exit code, its lines on stdout, and the last line on stderr."""

    code: int
    lines: list[str]
    sentence: str


class VerbError(Exception):
    """A verb whose exit code is not 0; the text is its last sentence."""

    def __init__(self, words: tuple[str, ...], done: Done) -> None:
        super().__init__(f"cesta {words[0]} ended with {done.code}: {done.sentence or 'no message'}")
        self.code = done.code


class Refused(VerbError):  # noqa: N818 - the name itself says what happened
    """A verb that would answer the same if it was asked again at once."""


async def run(
    *words: str,
    log: Log,
    answers: tuple[int, ...] = (0,),
    refusals: tuple[int, ...] = (),
    log_answer: Log | None = None,
) -> Done:
    """Run ``cesta words…``, logging its lines, and return what it said if its exit code is among ``answers``.

    ``log_answer`` gets the lines of stdout, by default ``log``.
    The verb ends with this process, however that ends. A cancelled call, as at a time limit, ends the verb.
    Raises Refused for an exit code among ``refusals`` or a mistyped option, and VerbError for any other.
    """
    # The signal comes from the kernel, so it comes after kill -9, too.
    ends_with_us = ("setpriv", "--pdeathsig", "TERM")
    process = await asyncio.create_subprocess_exec(
        *ends_with_us, find_command(), *words, stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=PIPE,
        limit=LONGEST_LINE,
    )  # fmt: skip
    try:
        lines, said = await asyncio.gather(
            _read(process.stdout, log_answer or log), _read(process.stderr, log)
        )
        code = await process.wait()
    except BaseException:
        await _end(process)
        raise
    done = Done(code, lines, said[-1] if said else "")
    if code in answers:
        return done
    raise Refused(words, done) if code in (USAGE, *refusals) else VerbError(words, done)


def find_command() -> str:
    """The path of the `cesta` command. Raises FileNotFoundError if there is none."""
    beside = CHECKOUT / ".venv" / "bin" / "cesta"
    found = os.environ.get("CESTA_COMMAND") or (str(beside) if beside.exists() else shutil.which("cesta"))
    if found is None:
        raise FileNotFoundError(f"no cesta command in {beside} or on PATH; set CESTA_COMMAND to its path")
    return found


async def _read(stream: asyncio.StreamReader | None, log: Log) -> list[str]:
    """Log the lines of a stream as they come, and return those that hold a word."""
    assert stream
    lines = []
    async for raw in stream:
        if line := raw.decode(errors="replace").strip():
            log(line)
            lines.append(line)
    return lines


async def _end(process: Process) -> None:
    """End the process: SIGTERM, and SIGKILL after GRACE_S."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), GRACE_S)
    except TimeoutError:
        process.kill()
        await process.wait()
