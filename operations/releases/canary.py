"""A canary release: loaded beside the active one, as a model that answers a share of the requests.

Triton serves it as the ensemble ``recommender_canary``; the gateway sends the share there. A promotion or a
rollback ends it.
"""

from contextlib import closing
from typing import Final

from operations.errors import CestaError
from operations.releases import history
from operations.releases.admit import admitted
from operations.releases.history import Action
from operations.releases.model_control import ModelControl
from operations.releases.models.configs import (
    CANARY,
    Served,
    canary_on_disk,
    configs_of,
    end_canary,
    write_configs,
)
from operations.releases.repository import require_active
from operations.releases.stores.listed_bucket import listed
from operations.releases.stores.store import Repository
from operations.releases.switch import (
    Change,
    Steps,
    agreed_release,
    record_failure,
    served_release,
    switch_front,
    tidy,
)
from operations.settings import ReleaseSettings

LEAST_PERCENT: Final = 0.01  # nginx splits requests by hundredths of a percent
MOST_PERCENT: Final = 99.99


def start_canary(
    repository: Repository,
    release: int,
    percent: float,
    control: ModelControl | None = None,
    *,
    bars: ReleaseSettings | None = None,
    force: bool = False,
    who: str | None = None,
    steps: Steps | None = None,
) -> history.Record:
    """Have ``release`` answer ``percent`` (0.01 to 99.99) of the requests as ``recommender_canary``.

    A second call changes the percent, or the release. Raises CestaError for a percent out of range, and
    NotPromoted, which names the step, as ``promote`` does; the served releases then stay the same.
    """
    if not LEAST_PERCENT <= percent <= MOST_PERCENT:
        raise CestaError(f"--percent {percent:g}: use {LEAST_PERCENT} to {MOST_PERCENT} or, to end it, 0")
    repository = listed(repository)
    change = Change(repository, Action.CANARY, release, control, who, steps or Steps())

    def check() -> None:
        if release == agreed_release(repository, control):
            raise CestaError("it is the active one, which answers all requests already")

    with closing(change.local), admitted(change, bars, force=force, check=check) as result:
        active = agreed_release(repository, control)
        served = Served(active, history.previous(repository), release, percent)
        with switch_front(change, served, result.release, CANARY):
            return change.record(**result.details, percent=percent)


def stop_canary(
    repository: Repository,
    release: int,
    control: ModelControl | None = None,
    *,
    who: str | None = None,
    steps: Steps | None = None,
) -> history.Record:
    """Send every request to the active release again. Raises CestaError if it is not the canary release."""
    repository = listed(repository)
    change = Change(repository, Action.END_CANARY, release, control, who, steps or Steps())
    with repository.lock():
        canary = canary_on_disk(repository)
        if canary is None or canary.release != release:
            actual = f"release {canary.release} is" if canary else "there is none"
            raise CestaError(f"release {release} is not the canary release of {repository}; {actual}")
        with record_failure(change):
            served = Served(require_active(repository), history.previous(repository))
            if control and served_release(repository, control) not in served.loaded:
                agreed_release(repository, control)  # raises; a server that fell back may end a canary, too
            with change.steps.run("write"):
                end_canary(repository)
                configs = configs_of(repository, served)
                write_configs(repository, configs)
            tidy(change, configs)
            return change.record()
