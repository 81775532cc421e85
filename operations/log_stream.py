"""Standard error for logs: a full disk, or a reader that has gone, costs lines and not the work."""

import sys
from contextlib import suppress


class LogStream:
    """A text file that writes to what ``sys.stderr`` is at the moment, and raises no OSError."""

    def write(self, text: str) -> int:
        """Write a text, as far as there is room."""
        with suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        """Send what is buffered, as far as there is room."""
        with suppress(OSError):
            sys.stderr.flush()
