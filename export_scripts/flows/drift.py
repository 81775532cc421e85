"""The flow `drift`: is the shop still the one that the release was made of?"""

from pathlib import Path
from typing import Any, Final

from notices import HOOKS
from pages import show_page
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import Completed
from stages import LIMITS_S, Build, run_stage, run_verb

DRIFTED: Final = 10  # exit code of `cesta drift`
MARK: Final = "DRIFT"  # in the rows of its table
LIMIT_S: Final = 3600.0
EVENT: Final = "cesta.drift.found"
RESOURCE: Final = {"prefect.resource.id": "cesta.releases"}


@flow(name="drift", on_completion=HOOKS, on_failure=HOOKS, on_crashed=HOOKS, on_cancellation=HOOKS)
async def drift(
    out: str = "artifacts",
    settings: str | None = None,
    options: list[str] | None = None,
    drift_options: list[str] | None = None,
) -> State[Any]:
    """Read new receipts and compare them with those of the active release; its plots are artifacts.

    ``options`` go to `cesta build --until etl`, ``drift_options`` to `cesta drift`, such as ``--gateway``.
    The state is "Drifted" for a drift, which is an event, too: it starts the deployment retrain/on-drift.
    """
    await run_stage.with_options(name="etl", timeout_seconds=LIMITS_S["etl"])(
        "etl", Build(out, settings, options or [])
    )
    page = Path(out) / "drift.html"
    words = ["drift", "--out", out, "--page", str(page), *(drift_options or [])]
    verb = run_verb.with_options(name="drift", timeout_seconds=LIMIT_S)
    done = await verb(words, answers=(0, DRIFTED))
    await show_page(page, "drift")
    if done.code != DRIFTED:
        return Completed(message=f"no drift was found; {page}")
    sentence = f"drifted: {', '.join(features(done.lines))}; {page}"
    emit_event(EVENT, RESOURCE, payload={"sentence": sentence})
    return Completed(name="Drifted", message=sentence)


def features(lines: list[str]) -> list[str]:
    """The first cells of the table's rows that tell of a drift."""
    rows = [line.strip("│ ").split("│") for line in lines if MARK in line]
    return [cells[0].strip() for cells in rows]
