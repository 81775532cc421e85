"""Run folder → release: a numbered version of all three models in a published repository.

A release exists once its manifest is moved in, as the last file. Publishing changes nothing that is served;
``promote.py`` does. Any number of publishers may work at once.
"""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from operations.errors import CestaError
from operations.records import manifest
from operations.records.contract import ENSEMBLE, GRAPH, MODELS, SAMPLER, SCORER, TABLES
from operations.records.manifest import RunManifest
from operations.records.sampler_code import check_sampler_code, copy_sampler_code, sampler_code
from operations.releases import history
from operations.releases.repository import active_release, read_release, releases, version_numbers
from operations.releases.signature import is_trusted, sign
from operations.releases.store import Repository
from operations.releases.trust import publisher_key
from operations.releases.verify import check_contract, check_graph


def publish(folder: Path, repository: Repository) -> int:
    """Copy the run in ``folder`` into ``repository`` as its next release; return its number.

    The publisher's key signs it. The active release stays active. Raises CestaError if the run's files are
    not as its manifest lists them, if it was exported with other sampler code, or if it breaks the contract
    of config.pbtxt or of the active release.
    """
    run = manifest.verify_run(folder)
    check_sampler_code(run)
    check_contract(run, folder / manifest.NAME)
    check_graph(folder / GRAPH)
    check_same_contract(run, repository)
    key = publisher_key()
    with repository.stage() as staging:
        _stage(folder, staging)
        while True:
            release = next_release(repository)
            _write_manifest(run, release, staging)
            sign(repository, release, (staging / ENSEMBLE / manifest.NAME).read_bytes(), key)
            if repository.move_in(staging, release):
                return release


def next_release(repository: Repository) -> int:
    """One more than the highest number that any of the models has or ever had."""
    numbers = version_numbers(repository) | repository.taken_numbers() | history.numbers(repository)
    return max(numbers, default=0) + 1


def published_as(folder: Path, repository: Repository) -> int | None:
    """The newest trusted release with files and sampler code of the run in ``folder``; None if none has."""
    run = manifest.verify_run(folder)
    for number in reversed(releases(repository)):
        release = read_release(repository, number)
        same = (release.digest, release.sampler_code) == (run.digest, run.sampler_code)
        if same and is_trusted(repository, number):
            return number
    return None


def check_same_contract(run: RunManifest, repository: Repository) -> None:
    """Raise CestaError if the active release has other tensors: both are served from one config.pbtxt."""
    if active_release(repository) is None:
        return
    ours, active = run.contract.json_object(), read_release(repository).contract.json_object()
    if changed := [key for key in ours if ours[key] != active.get(key)]:
        listed = ", ".join(f"{key} = {ours[key]} (active release: {active.get(key)})" for key in changed)
        raise CestaError(f"the contract changed: {listed}; publish into a new repository")


def _stage(folder: Path, staging: Path) -> None:
    """Copy the run into three model folders, without the release's number and the manifest."""
    sampler, scorer, ensemble = (staging / model for model in MODELS)
    shutil.copytree(folder / "arrays", sampler / "arrays")
    copy_sampler_code(sampler)
    scorer.mkdir()
    for name in (GRAPH, TABLES):
        if (folder / name).exists():  # only a graph with large tables has a second file
            shutil.copy2(folder / name, scorer / name)
    ensemble.mkdir()  # the manifest goes there: an object store cannot hold an empty folder


def _write_manifest(run: RunManifest, release: int, staging: Path) -> None:
    created_at = datetime.now(UTC).isoformat(timespec="seconds")
    files = {
        f"{SCORER if name in (GRAPH, TABLES) else SAMPLER}/{release}/{name}": file
        for name, file in (dict(run.files) | sampler_code()).items()
    }
    manifest.write(run.published(release, created_at, files), staging / ENSEMBLE)
