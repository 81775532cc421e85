"""Lines for people and logs: a full disk, or a reader that has gone, costs lines and not the work."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Literal, TextIO


class LogStream:
    """A text file that writes to what ``sys.stderr`` or ``sys.stdout`` is now, and raises no OSError."""

    def __init__(self, name: Literal["stdout", "stderr"] = "stderr") -> None:
        self._name = name

    def write(self, text: str) -> int:
        """Write a text, as far as there is room."""
        if stream := self._stream():
            with suppress(OSError):
                stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Send what is buffered, as far as there is room."""
        if stream := self._stream():
            with suppress(OSError):
                stream.flush()

    def _stream(self) -> TextIO | None:
        """Return the stream; None if the process was started without it."""
        stream: TextIO | None = getattr(sys, self._name)
        return stream


def announce(line: str) -> None:
    """Print a line on standard output that nobody needs."""
    print(line, file=LogStream("stdout"), flush=True)
    drop_unwritten(sys.stdout)


def drop_unwritten(stream: TextIO | None) -> None:
    """Drop what a stream cannot write. Python would try again at its end, fail, and exit with 120."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
