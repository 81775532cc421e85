"""Reads the log of the live table before a question, so that the explained candidates are the served ones.

The samplers in the server follow the log in threads, and the supervisor waits for them before it
acknowledges a change. This process explains at a low priority, so nobody waits for it.
"""

from collections.abc import Callable
from pathlib import Path

from ensemble.candidate_sampler.live import change_log
from ensemble.candidate_sampler.live.forbidden import Forbidden


def follow(folder: Path, table: Forbidden) -> Callable[[], None]:
    """A function that brings ``table`` to the newest version of the log in ``folder``."""
    log, read = folder / change_log.STOCK, (0, 0)  # number of the file, place after the last change

    def refresh() -> None:
        nonlocal read
        try:
            about = log.stat()
        except FileNotFoundError:  # nothing was ever reported
            return
        is_other = about.st_ino != read[0] or about.st_size < read[1]
        found = change_log.read_from(log, 0 if is_other else read[1])
        if not found.changes:
            return
        if is_other:  # written anew: its first change is a whole table
            found.changes[0] = found.changes[0]._replace(replace=True)
        table.apply(found.changes)
        read = about.st_ino, found.end

    return refresh
