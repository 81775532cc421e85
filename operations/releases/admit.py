"""What a release must pass before a server loads it: the check of its files, the gate, the trial."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import structlog

from operations.errors import CestaError
from operations.records.manifest import ReleaseManifest
from operations.releases import history
from operations.releases.gate import check_gate
from operations.releases.golden import check_golden
from operations.releases.model_control import ModelControl
from operations.releases.models.placing import parts_of
from operations.releases.repository import read_release
from operations.releases.signatures.intact import check_intact, check_loaded
from operations.releases.signatures.verify import verify_release
from operations.releases.stores.waiting import wait_for_lock
from operations.releases.switch import Change, record_failure
from operations.releases.trial import open_trial
from operations.settings import ReleaseSettings

SWITCH_S: Final = 30.0  # how long another change may hold the lock when a trial has ended

log = structlog.get_logger()


@dataclass(frozen=True)
class Admitted:
    """A release that may be loaded, and what the record says about its admission."""

    release: ReleaseManifest
    details: history.Admission
    before: int | None  # the release that answered then
    at_hand: bool  # it was loaded, so it was not tried


@contextlib.contextmanager
def admitted(
    change: Change,
    bars: ReleaseSettings | None = None,
    *,
    gate: bool = True,
    force: bool = False,
    check: Callable[[], object] = lambda: None,
) -> Iterator[Admitted]:
    """Admit the release of a change, and hold the repository's lock within the block, which switches to it.

    The trial may take minutes, and a rollback must not wait for it: the lock is given back meanwhile. Before
    the block, what the trial assumed is looked at again. ``check`` raises CestaError for a change that makes
    no sense, at both times. ``force`` passes the gate in spite of its objections.
    """
    with change.repository.lock(), record_failure(change):
        check()
        with change.steps.run("verify"):
            described = read_release(change.repository, change.release)
        at_hand = change.control is not None and is_at_hand(change, described, change.control)
    with record_failure(change):
        result = _admit(change, at_hand, bars, gate=gate, force=force)
    with wait_for_lock(change.repository, SWITCH_S), record_failure(change):
        with change.steps.run("verify"):
            _check_unchanged(change, result)
        check()
        yield result


def _admit(
    change: Change, at_hand: bool, bars: ReleaseSettings | None, *, gate: bool, force: bool
) -> Admitted:
    """Verify the release of a change, ask the gate, and try it unless the server has it loaded.

    Raises CestaError for the first that it does not pass.
    """
    repository, control, steps, local = change.repository, change.control, change.steps, change.local
    details: history.Admission = {}
    with contextlib.ExitStack() as stack:
        with steps.run("verify"):
            described, trial = read_release(repository, change.release), None
        if control is not None and local.is_copy:
            with steps.run("fetch"):
                local.refresh()
        if control is not None and not at_hand:
            with steps.run("trial"):  # its server starts while the files are read
                folder, config = local.folder.root, control.config_name()
                trial = stack.enter_context(open_trial(folder, described, config))
        if local.is_copy and (change.files is local or (trial and not trial.untried)):
            with steps.run("fetch"):
                local.fetch(change.release)
        with steps.run("verify"):
            described = change.files.check(
                change.release, lambda files, number: verify_release(repository, number, files=files)
            )
            if trial and not trial.untried and change.files is not local:
                local.check(change.release, check_intact)
            check_loaded(change.files, control, change.release)
        if gate:
            with steps.run("gate"):
                forced = check_gate(repository, described, change.before, bars, force)
                if "forced" in forced:
                    details["forced"] = forced["forced"]
        if trial and trial.untried:
            details["untried"] = trial.untried
        elif trial and control:
            with steps.run("trial"):
                trial.run(described, control.config_name())
    return Admitted(described, details, change.before, at_hand)


def _check_unchanged(change: Change, admitted: Admitted) -> None:
    """Raise CestaError if another change has made the admission worthless."""
    number, control = change.release, change.control
    if change.before != admitted.before:
        raise CestaError(
            f"release {change.before} became the active one while release {number} was tried; repeat the "
            "command if you still want it"
        )
    if read_release(change.repository, number) != admitted.release:
        raise CestaError(f"release {number} was replaced while it was tried; {admitted.release.WAY_OUT}")
    if control is not None and admitted.at_hand and not is_loaded(admitted.release, control):
        raise CestaError(f"release {number} was unloaded meanwhile; repeat the command, which tries it first")


def is_at_hand(change: Change, release: ReleaseManifest, control: ModelControl) -> bool:
    """Is the release loaded, and does it answer?

    The process of a release that answers nobody may have died unnoticed, and a switch to it would leave
    shops without answers. Such a release is unloaded, so that it is loaded anew. Its unload may never end,
    which Triton does not mind.
    """
    if not is_loaded(release, control):
        return False
    try:
        with change.steps.run("golden requests"):
            check_golden(control, release)
        return True
    except CestaError as error:
        if release.release == change.before:
            raise
        log.warning("loaded anew", release=release.release, reason=str(error))
    check_loaded(change.files, control, release.release)
    for model in parts_of(release).values():
        control.set_versions(model, control.ready(model) - {release.release})
    return False


def is_loaded(release: ReleaseManifest, control: ModelControl) -> bool:
    """Has the server all parts of a release?"""
    ready = control.ready_parts()
    return all(release.release in ready.get(model, ()) for model in parts_of(release).values())
