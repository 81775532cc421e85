"""Which release is served: promote one, or roll back to the one before. Either ends a canary release."""

from operations.errors import CestaError
from operations.releases import history
from operations.releases.configs import PARTS, Served
from operations.releases.gate import check_gate
from operations.releases.model_control import ModelControl
from operations.releases.store import Repository, locked
from operations.releases.switch import Change, Golden, switched, told
from operations.releases.verify import verify_release
from operations.settings import ReleaseSettings


def promote(
    repository: Repository,
    release: int,
    control: ModelControl | None = None,
    *,
    bars: ReleaseSettings | None = None,
    force: bool = False,
    who: str | None = None,
) -> history.Record:
    """Have ``release`` served, by the server of ``control`` or else from the next start on; the record of it.

    Raises NotPromoted, which names the step and its reason; the release before then still answers. ``force``
    promotes against the gate's objections, which the record then holds, as it does ``who`` asked for it.
    """
    change = Change(repository, "promote", release, control, who)
    with locked(repository), told(change) as steps:
        with steps("verify"):
            described = verify_release(repository, release)
        with steps("gate"):
            forced = check_gate(repository, described, change.before, bars, force)
        served = Served(release, _previous(repository, release, change.before))
        with switched(change, served, described["golden"]):
            return change.record(**forced)


def roll_back(
    repository: Repository, control: ModelControl | None = None, *, who: str | None = None
) -> history.Record:
    """Return to the release that was active before this one; in milliseconds while that is still loaded.

    Raises CestaError if there is none, and NotPromoted as ``promote``.
    """
    with locked(repository):
        change = Change(repository, "rollback", _way_back(repository), control, who)
        with told(change) as steps:
            release = change.release
            golden: Golden = []
            if control is None or any(release not in control.ready(model) for model in PARTS):
                with steps("verify"):
                    golden = verify_release(repository, release)["golden"]
            with switched(change, Served(release, _previous(repository, release, change.before)), golden):
                return change.record()


def _way_back(repository: Repository) -> int:
    line = history.line_of_succession(repository)
    if len(line) < 2:
        raise CestaError(
            f"no release was active in {repository} before {line[0] if line else 'now'}; "
            'name one with "cesta release promote"'
        )
    return line[-2]


def _previous(repository: Repository, release: int, before: int | None) -> int | None:
    """What stays loaded beside ``release``: the one before, or where that is it, the one before that."""
    if before != release:
        return before
    earlier = [number for number in history.line_of_succession(repository) if number != release]
    return earlier[-1] if earlier else None
