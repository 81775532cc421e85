"""The flow `retrain`: receipts to a promoted release, a task for each stage."""

from pathlib import Path
from typing import Any, Final, Literal

from notices import HOOKS
from pages import show_metrics, show_page
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from stages import LIMITS_S, Build, run_stage, run_verb
from verbs import Refused

# Exit codes that leave the earlier release active, and would come again at once: refused by the gate,
# unusable receipts, overtaken by another change, a worse or an undecided canary, a full disk, not loaded.
REFUSALS: Final = (3, 4, 7, 8, 9, 10, 12)
RELEASE_LIMIT_S: Final = 4 * 3600.0  # a canary is watched for an hour, unless the settings say more
MOST_RUNS: Final = 5  # of one flow run, whose worker dies each time


@flow(name="retrain", on_completion=HOOKS, on_failure=HOOKS, on_crashed=HOOKS, on_cancellation=HOOKS)
async def retrain(
    out: str = "artifacts",
    settings: str | None = None,
    options: list[str] | None = None,
    release_verb: Literal["retrain", "build"] = "retrain",
    release_options: list[str] | None = None,
) -> State[Any]:
    """Run the stages of a build that are not fresh, then publish and promote what they made.

    `cesta retrain` has a canary release tried by a part of the requests first; `cesta build` promotes at
    once, if the gate agrees. ``options`` go to every verb, such as ``--transactions`` and a folder;
    ``release_options`` to the last, such as ``--gateway``. The state is "Refused" if the earlier release
    stays active; the message names the objections.
    """
    if (flow_run.run_count or 0) > MOST_RUNS:
        return Failed(name="GaveUp", message=f"its worker died {MOST_RUNS} times; look at the worker's log")
    build = Build(out, settings, options or [])
    for stage, limit_s in LIMITS_S.items():
        await run_stage.with_options(name=stage, timeout_seconds=limit_s)(stage, build)
    await show_metrics(Path(out) / "metrics.json")
    await show_page(Path(out) / "report.html", "report")
    release = run_verb.with_options(name="release", timeout_seconds=RELEASE_LIMIT_S)
    try:
        words = [release_verb, *build.words(), *(release_options or [])]
        done = await release(words, refusals=REFUSALS)
    except Refused as refusal:
        return Failed(name="Refused", message=str(refusal))
    return Completed(message=done.lines[-1] if done.lines else done.sentence)
