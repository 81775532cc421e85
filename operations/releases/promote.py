"""Promote a release, or roll back to the previous one. Either ends a canary release."""

from contextlib import closing
from functools import partial
from typing import Final

from operations.errors import CestaError
from operations.releases import history
from operations.releases.admit import admitted, is_at_hand
from operations.releases.history import Action
from operations.releases.model_control import ModelControl
from operations.releases.models.configs import Served
from operations.releases.repository import active_release, read_release
from operations.releases.signatures.signature import check_signature
from operations.releases.signatures.trust import find_trust
from operations.releases.stores.listed_bucket import listed
from operations.releases.stores.store import Repository
from operations.releases.stores.waiting import wait_for_lock
from operations.releases.switch import Change, Steps, record_failure, switch_front
from operations.settings import ReleaseSettings

MOMENT_S: Final = 1.0  # how long another change may keep a rollback waiting; a switch takes milliseconds


def promote(
    repository: Repository,
    release: int,
    control: ModelControl | None = None,
    *,
    bars: ReleaseSettings | None = None,
    force: bool = False,
    expected: int | None = None,
    who: str | None = None,
    steps: Steps | None = None,
) -> history.Record:
    """Have ``release`` served, by the server of ``control`` or else from the next start on; its record.

    Raises NotPromoted, which names the step and its reason; the release before still answers. ``force``
    promotes against the gate's objections. The record holds them, and ``who`` promoted. With ``expected``,
    only that release is replaced: another one that is active was promoted by somebody else meanwhile.
    ``steps`` shows another thread how far it is.
    """
    repository = listed(repository)
    change = Change(repository, Action.PROMOTE, release, control, who, steps or Steps())
    check = partial(check_expected, repository, expected)
    with closing(change.local), admitted(change, bars, force=force, check=check) as result:
        served = Served(release, _previous(repository, release, change.before))
        with switch_front(change, served, result.release):
            return change.record(**result.details)


def roll_back(
    repository: Repository,
    control: ModelControl | None = None,
    *,
    expected: int | None = None,
    who: str | None = None,
    steps: Steps | None = None,
) -> history.Record:
    """Return to the release that was active before this one; in milliseconds while it is still loaded.

    With ``expected``, only that release is left: after another rollback or promotion, this one would leave a
    release that the caller does not mean.

    Raises CestaError if there is none, and NotPromoted as ``promote`` does.
    """
    repository = listed(repository)
    check = partial(check_expected, repository, expected)
    with wait_for_lock(repository, MOMENT_S):
        check()
        change = Change(repository, Action.ROLLBACK, _way_back(repository), control, who, steps or Steps())
        with record_failure(change):
            described = read_release(repository, change.release)
            if control is not None and is_at_hand(change, described, control):
                # Its files were checked when it was loaded; its publisher may no longer be trusted.
                with change.steps.run("verify"):
                    check_signature(repository, change.release, find_trust())
                served = Served(change.release, _previous(repository, change.release, change.before))
                with switch_front(change, served, described, ask_golden=False):
                    return change.record()
    with closing(change.local), admitted(change, gate=False, check=check) as result:
        served = Served(change.release, _previous(repository, change.release, change.before))
        with switch_front(change, served, result.release):
            return change.record(**result.details)


def check_expected(repository: Repository, expected: int | None) -> None:
    """Raise CestaError, with both names, if another release than ``expected`` is active. None: any may be."""
    if expected is not None and (active := active_release(repository)) != expected:
        is_active = "no release is active" if active is None else f"release {active} is the active one"
        raise CestaError(f"{is_active}, not {expected}: somebody else changed it")


def _way_back(repository: Repository) -> int:
    line = history.line_of_succession(repository)
    if len(line) < 2:
        raise CestaError(
            f"no release was active in {repository} before {line[0] if line else 'now'}; "
            'name one with "cesta release promote"'
        )
    return line[-2]


def _previous(repository: Repository, release: int, before: int | None) -> int | None:
    """The release that stays loaded beside ``release``: the one active before it, other than itself."""
    if before != release:
        return before
    earlier = [number for number in history.line_of_succession(repository) if number != release]
    return earlier[-1] if earlier else None
