"""Python models whose process has ended, while tritonserver waits for it: for ever, and without a word.

Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from operations.server.distribution import library_sentence
from operations.server.libraries import missing_in

_MOST_WORDS = 5  # lines of what a process printed before it ended
_TRITONS = re.compile(r"[IWEF]\d{4} [\d:.]+ \d+ |\+-|\| ")  # a line or a table of tritonserver's own log
_STATE, _PARENT, _EXIT_CODE = 0, 1, 49  # fields of /proc/PID/stat after the program's name
_OUT_OF_MEMORY = " (the kernel kills so when memory runs out)"


def ended_children(process: int) -> dict[int, int]:
    """Return the children that have ended and that `process` has not noticed: process id → exit code."""
    ended = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if fields[_STATE] == "Z" and int(fields[_PARENT]) == process:
                ended[int(stat.parent.name)] = os.waitstatus_to_exitcode(int(fields[_EXIT_CODE]))
    return ended


def describe_end(code: int, log: Iterable[str], python: str) -> str:
    """Return a sentence about a stub that ended with `code`; `python` is the version of its Python."""
    words = _last_words(log)
    how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
    how += _OUT_OF_MEMORY if code == -9 else ""
    ways_out = {library_sentence(library, python): None for library in missing_in("\n".join(words))}
    said = " / ".join(words) or "it printed nothing"
    return "; ".join([f"the process of a Python model {how} while tritonserver loaded it: {said}", *ways_out])


def _last_words(log: Iterable[str]) -> list[str]:
    """Return the last different lines since tritonserver began to load a model, without its own."""
    words: dict[str, None] = {}
    loading = False
    for line in log:
        loading = loading or "loading: " in line
        if loading and line.strip() and not _TRITONS.match(line):
            words[line.strip()] = None
    return list(words)[-_MOST_WORDS:]
