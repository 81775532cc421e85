"""What a release must pass before a server loads it: the check of its files, the gate, the trial."""

import contextlib
from dataclasses import dataclass

import structlog

from operations.errors import CestaError
from operations.records.manifest import ReleaseManifest
from operations.releases import history
from operations.releases.gate import check_gate
from operations.releases.golden import check_golden
from operations.releases.model_control import ModelControl
from operations.releases.models.configs import PARTS
from operations.releases.models.placing import models_of
from operations.releases.repository import read_release
from operations.releases.signatures.intact import check_intact, check_loaded
from operations.releases.signatures.verify import verify_release
from operations.releases.switch import Change
from operations.releases.trial import open_trial
from operations.settings import ReleaseSettings

log = structlog.get_logger()


@dataclass(frozen=True)
class Admitted:
    """A release that may be loaded, and what the record says about its admission."""

    release: ReleaseManifest
    details: history.Admission


def admit(
    change: Change, bars: ReleaseSettings | None = None, *, gate: bool = True, force: bool = False
) -> Admitted:
    """Verify the release of a change, ask the gate, and try it unless the server has it loaded.

    Raises CestaError for the first that it does not pass. ``force`` passes the gate all the same.
    """
    repository, control, steps, local = change.repository, change.control, change.steps, change.local
    details: history.Admission = {}
    with contextlib.ExitStack() as stack:
        with steps.run("verify"):
            described, trial = read_release(repository, change.release), None
        if control is not None and local.is_copy:
            with steps.run("fetch"):
                local.refresh()
        if control is not None and not is_at_hand(change, described, control):
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
    return Admitted(described, details)


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
    for part in PARTS:
        model = models_of(release)[part]
        control.set_versions(model, control.ready(model) - {release.release})
    return False


def is_loaded(release: ReleaseManifest, control: ModelControl) -> bool:
    """Has the server both parts of a release?"""
    models, ready = models_of(release), control.ready_parts()
    return all(release.release in ready.get(models[part], ()) for part in PARTS)
