"""What a retraining would do now, in sentences; it changes nothing and reads no receipts."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from export_scripts.receipts.meta import read_meta
from export_scripts.retraining.journal import read_journal
from export_scripts.retraining.server import Server
from export_scripts.settings import RetrainSettings
from operations.errors import CestaError
from operations.outputs import Outputs
from operations.releases.history import known_active
from operations.releases.models.configs import canary_on_disk
from operations.releases.repository import read_release
from operations.releases.stores.store import Repository


def plan(
    root: Path, repository: Repository, server: Server, settings: RetrainSettings, stale: Sequence[str]
) -> Iterator[str]:
    """Yield a sentence a step. ``stale`` names the stages that would run if no result of theirs changes."""
    active = known_active(repository)
    runs = read_journal(root).runs
    if runs and runs[-1].outcome is None:
        yield f"The run of {runs[-1].started_at} was killed or is under way; this one would go on from there."
    yield _receipts(stale, Outputs(root))
    if active is not None and "etl" not in stale and _is_made_from_them(root, repository, active):
        yield f"Release {active} is made from them, so it would end there: nothing is new."
        return
    if active is None:
        yield f"It would publish a release in {repository}. None is active, so the next start serves it."
        return
    yield f"It would publish a release in {repository} and hold it against release {active} at the gate."
    canary = canary_on_disk(repository)
    if canary:
        yield f"Release {canary.release} is the canary release with {canary.percent:g} % of the requests."
    try:
        server.check(read_release(repository, active))
        counts = server.traffic()["counts"] if settings.percent else {}
        yield "The server answers." if counts is not None else "The server answers; no gateway asks it."
    except CestaError as error:
        yield f"The server could not be changed now: {error}"
    if settings.percent:
        yield (
            f"The release would answer {settings.percent:g} % of the requests for {settings.minutes:g} "
            f"minutes, be judged by at least {settings.least_requests} of them (with fewer: "
            f"{settings.undecided}), and then become active or end."
        )
    else:
        yield "It would then become active; retrain.percent = 0 leaves out the canary release."
    yield f"It would keep the {settings.keep} releases that were active last and retire older ones."


def _is_made_from_them(root: Path, repository: Repository, active: int) -> bool:
    data = read_release(repository, active).data
    return data is not None and data.fingerprint == read_meta(Outputs(root).data)["fingerprint"]


def _receipts(stale: Sequence[str], outputs: Outputs) -> str:
    if "etl" in stale and not outputs.data.exists():
        return f"No receipts were read into {outputs.data} yet: etl, train, evaluate and export would run."
    if "etl" in stale:
        return (
            "The receipts or their settings are new since the last etl: it would run. If the data "
            "differ, train, evaluate and export follow."
        )
    if stale:
        return f"The receipts are those of the last etl. It would run {', '.join(stale)}."
    return "The receipts are those of the last etl, and all stages are fresh: nothing would be trained."
