"""How a retraining ends: a word for the record and an exit code for the program that started it."""

from enum import Enum

from operations.errors import CestaError, NotPromoted
from operations.records.disk import is_full


class Outcome(Enum):
    """A word and an exit code. docs/operations.md has the table."""

    PROMOTED = "promoted", 0
    NOTHING_NEW = "nothing new", 0
    FAILED = "failed", 1
    REFUSED = "refused", 3  # as "cesta build" ends when the gate objects
    BAD_INPUT = "bad input", 4
    NO_SERVER = "no server", 5
    NO_GATEWAY = "no gateway", 6
    OVERTAKEN = "overtaken", 7
    WORSE = "canary worse", 8
    UNDECIDED = "undecided", 9
    DISK_FULL = "disk full", 10
    LOCKED = "locked", 11
    NOT_LOADED = "not loaded", 12
    INTERRUPTED = "interrupted", 130

    def __init__(self, word: str, code: int) -> None:
        self.word, self.code = word, code


class Stopped(CestaError):  # noqa: N818 - the name itself says what happened
    """A retraining that ended without a new active release. The old one answers as before."""

    def __init__(self, outcome: Outcome, sentence: str) -> None:
        super().__init__(sentence)
        self.outcome = outcome


def outcome_of(error: BaseException) -> Outcome:
    """The outcome of a run that ended with this error."""
    from export_scripts.receipts.problems import BadInput  # with pandas
    from export_scripts.receipts.room import NoRoomOnDisk

    if isinstance(error, Stopped):
        return error.outcome
    if isinstance(error, KeyboardInterrupt):
        return Outcome.INTERRUPTED
    if isinstance(error, NoRoomOnDisk) or _came_of_a_full_disk(error):
        return Outcome.DISK_FULL
    if isinstance(error, NotPromoted):
        return Outcome.REFUSED
    return Outcome.BAD_INPUT if isinstance(error, BadInput) else Outcome.FAILED


def _came_of_a_full_disk(error: BaseException | None) -> bool:
    """Look at the error and at those that it explains: a sentence for users hides its cause from them."""
    while error is not None:
        if isinstance(error, OSError) and is_full(error):
            return True
        error = error.__cause__ or error.__context__
    return False
