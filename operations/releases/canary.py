"""A canary release: loaded beside the active one and asked by a share of the requests, as a model of its own.

Triton serves it as the ensemble ``recommender_canary``; the gateway sends the share there. Promoting any
release, and rolling back, ends it.
"""

from typing import Final

from operations.errors import CestaError
from operations.releases import history
from operations.releases.configs import (
    CANARY,
    Served,
    canary_on_disk,
    configs_of,
    end_canary,
    write_configs,
)
from operations.releases.gate import check_gate
from operations.releases.model_control import ModelControl
from operations.releases.store import Repository, locked
from operations.releases.switch import Change, agreed_release, switched, tidy, told
from operations.releases.verify import verify_release
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
) -> history.Record:
    """Have ``release`` answer as ``recommender_canary``; ``percent`` of the requests, 0.01 to 99.99.

    Called again it changes the percent, or the release. Raises CestaError for another percent, and
    NotPromoted, which names the step, as ``promote`` does; what was served is then served still.
    """
    if not LEAST_PERCENT <= percent <= MOST_PERCENT:
        raise CestaError(f"--percent {percent:g}: say {LEAST_PERCENT} to {MOST_PERCENT} or, to end it, 0")
    change = Change(repository, "canary", release, control, who)
    with locked(repository), told(change) as steps:
        active = agreed_release(repository, control)
        if release == active:
            raise CestaError("it is the active one, which answers all requests already")
        with steps("verify"):
            described = verify_release(repository, release)
        with steps("gate"):
            forced = check_gate(repository, described, active, bars, force)
        served = Served(active, history.previous(repository), release, percent)
        with switched(change, served, described["golden"], CANARY):
            return change.record(percent=percent, **forced)


def stop_canary(
    repository: Repository, release: int, control: ModelControl | None = None, *, who: str | None = None
) -> history.Record:
    """Send every request to the active release again. Raises CestaError if it is not the canary release."""
    change = Change(repository, "end canary", release, control, who)
    with locked(repository):
        found = canary_on_disk(repository)
        if found is None or found.release != release:
            there = f"release {found.release} is" if found else "there is none"
            raise CestaError(f"release {release} is not the canary release of {repository}; {there}")
        with told(change) as steps:
            served = Served(agreed_release(repository, control), history.previous(repository))
            with steps("write"):
                end_canary(repository)
                configs = configs_of(repository, served)
                write_configs(repository, configs)
            tidy(change, configs)
            return change.record()
