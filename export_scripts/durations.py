"""How long a stage and its steps took, as one event of the log.

``with stage("train"): …`` logs the event "durations" at its end. Inside, ``with step("counts"): …`` adds to
the step of that name. Both are decorators, too. Outside a stage, a step logs nothing.
"""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, TypedDict

import structlog

log = structlog.get_logger()


class Duration(TypedDict):
    """Seconds, and seconds of CPU of this process and of the children that have ended."""

    wall_s: float
    cpu_s: float


_steps: Final[ContextVar[dict[str, Duration] | None]] = ContextVar("steps", default=None)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Log the durations of the stage ``name`` and of its steps, unless it fails."""
    steps: dict[str, Duration] = {}
    token = _steps.set(steps)
    begun = _now()
    try:
        yield
    finally:
        _steps.reset(token)
    rounded = {step: _round(spent) for step, spent in steps.items()}
    log.info("durations", stage=name, **_round(_since(begun)), steps=rounded)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Add what happens inside to the step ``name`` of the stage."""
    steps = _steps.get()
    begun = _now()
    try:
        yield
    finally:
        if steps is not None:
            spent, before = _since(begun), steps.get(name, Duration(wall_s=0, cpu_s=0))
            steps[name] = Duration(
                wall_s=before["wall_s"] + spent["wall_s"], cpu_s=before["cpu_s"] + spent["cpu_s"]
            )


def _now() -> Duration:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = time.process_time() + children.ru_utime + children.ru_stime
    return Duration(wall_s=time.monotonic(), cpu_s=cpu_s)


def _since(begun: Duration) -> Duration:
    now = _now()
    return Duration(wall_s=now["wall_s"] - begun["wall_s"], cpu_s=now["cpu_s"] - begun["cpu_s"])


def _round(spent: Duration) -> Duration:
    return Duration(wall_s=round(spent["wall_s"], 3), cpu_s=round(spent["cpu_s"], 3))
