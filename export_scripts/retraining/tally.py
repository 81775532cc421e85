"""Adds up counters that programs begin anew at 0, so that the sum outlives them and this program."""

from export_scripts.retraining.journal import Canary
from operations.gateway.traffic import NAMES, Counts


def add(canary: Canary, now: Counts) -> None:
    """Add what was counted since the last call to the canary's sums. The first call only sets the beginning.

    A counter below its last value has begun anew, so all of it is new. One that is missing keeps its value:
    its program did not answer.
    """
    is_first = canary.seen is None
    seen = canary.seen or {}
    for name in NAMES:
        sums, before = canary.sums.setdefault(name, {}), seen.setdefault(name, {})
        for label, value in now.get(name, {}).items():
            if not is_first:
                last = before.get(label, 0.0)
                sums[label] = sums.get(label, 0.0) + (value - last if value >= last else value)
            before[label] = value
    canary.seen = seen
