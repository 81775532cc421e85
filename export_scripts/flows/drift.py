"""The flow `drift`: is the shop still the one that the release was made of?"""

import json
from pathlib import Path
from typing import Any, Final

from notices import HOOKS
from pages import show_findings, show_page
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import Completed
from stages import LIMITS_S, Build, run_stage, run_verb

DRIFTED: Final = 10  # exit code of `cesta drift`
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
    """Read new receipts and compare them with those of the active release; its table and plots are artifacts.

    ``options`` go to `cesta build --until etl`, ``drift_options`` to `cesta drift`, such as ``--gateway``.
    The state is "Drifted" for a drift, which is an event, too: it starts the deployment retrain/on-drift.
    """
    await run_stage.with_options(name="etl", timeout_seconds=LIMITS_S["etl"])(
        "etl", Build(out, settings, options or [])
    )
    page = Path(out) / "drift.html"
    words = ["drift", "--out", out, "--page", str(page), "--json", *(drift_options or [])]
    verb = run_verb.with_options(name="drift", timeout_seconds=LIMIT_S)
    done = await verb(words, answers=(0, DRIFTED), for_programs=True)
    findings = findings_of(json.loads("\n".join(done.lines)))
    await show_findings(findings, "drift-findings")
    await show_page(page, "drift")
    if done.code != DRIFTED:
        sentence = "no drift was found" if findings else "too few receipts or questions to decide"
        return Completed(message=f"{sentence}; {page}")
    drifted = dict.fromkeys(finding["feature"] for finding in findings if finding["drifted"])
    sentence = f"drifted: {', '.join(drifted)}; {page}"
    emit_event(EVENT, RESOURCE, payload={"sentence": sentence})
    return Completed(name="Drifted", message=sentence)


def findings_of(told: dict[str, Any]) -> list[dict[str, Any]]:
    """The findings in the JSON of `cesta drift`: of receipts one list, of questions one for each window."""
    looks = told["windows"].values() if "windows" in told else [told]
    return [finding for look in looks for finding in look["findings"]]
