"""The flow `score`: the best products of every customer, as files."""

from typing import Any, Final

from notices import HOOKS
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from stages import run_verb

LIMIT_S: Final = 8 * 3600.0


@flow(name="score", on_completion=HOOKS, on_failure=HOOKS, on_crashed=HOOKS, on_cancellation=HOOKS)
async def score(out: str = "artifacts", score_options: list[str] | None = None) -> State[Any]:
    """Run `cesta score` with ``score_options``, such as ``--to`` and a bucket.

    A run that was interrupted goes on with its next partition.
    """
    verb = run_verb.with_options(name="score", timeout_seconds=LIMIT_S)
    done = await verb(["score", "--out", out, *(score_options or [])])
    return Completed(message=done.lines[-1] if done.lines else done.sentence)
