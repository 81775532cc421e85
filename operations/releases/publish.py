"""Run folder → release: a numbered version of all its models in a published repository.

A release exists once its manifest is moved in, as the last file. Publishing changes nothing that is served;
``promote.py`` does. Any number of publishers may work at once.
"""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from operations.errors import CestaError
from operations.records import manifest
from operations.records.contract import ENSEMBLE, GRAPH, MODELS, SAMPLER, SCORER, TABLES
from operations.records.disk import explained
from operations.records.file_record import FileRecord, describe
from operations.records.manifest import RunManifest
from operations.records.part_code import array_names, check_part_code, copy_part, part_code
from operations.records.sampler_code import check_sampler_code, copy_sampler_code, sampler_code
from operations.releases import history
from operations.releases.models.configs import PLACEHOLDER
from operations.releases.models.placing import choose_models
from operations.releases.repository import active_release, read_release, releases, version_numbers
from operations.releases.signatures.signature import is_trusted, sign
from operations.releases.signatures.trust import publisher_key
from operations.releases.signatures.verify import ARRAYS, check_contract
from operations.releases.stores.store import Repository


def publish(folder: Path, repository: Repository) -> int:
    """Copy the run in ``folder`` into ``repository`` as its next release; return its number.

    The publisher's key signs it. The active release stays active. Releases of other contracts may lie beside
    the new one. Raises CestaError if the run's files are not as its manifest lists them, if it was exported
    with other sampler code, if graph or arrays break the contract in its manifest, or if this cesta cannot
    serve that contract.
    """
    run = manifest.verify_run(folder)
    check_sampler_code(run)
    check_contract(run, folder / manifest.NAME, graph=folder / GRAPH, arrays=folder / ARRAYS)
    check_part_code(run)
    active_release(repository)  # raises if cesta did not publish the repository
    models = choose_models(run.contract, repository)
    key = publisher_key()
    with explained(f"{folder} was not published in {repository}"), repository.stage() as staging:
        _stage(run, folder, staging, models)
        abandoned = _clear_abandoned(repository)
        while True:
            release = abandoned or next_release(repository)
            abandoned = None
            _write_manifest(run, release, staging, models)
            sign(repository, release, (staging / ENSEMBLE / manifest.NAME).read_bytes(), key)
            if repository.move_in(staging, release):
                return release


def next_release(repository: Repository) -> int:
    """One more than the highest number that any of the models has or ever had."""
    numbers = version_numbers(repository) | repository.taken_numbers() | history.numbers(repository)
    return max(numbers, default=0) + 1


def _clear_abandoned(repository: Repository) -> int | None:
    """Delete what publishers left that were killed; the number of the last one, which can be finished."""
    last = next_release(repository) - 1
    found = None
    for number in repository.abandoned():
        if number == last:
            found = number
        else:
            repository.clear(number)
    return found


def published_as(folder: Path, repository: Repository) -> int | None:
    """The newest trusted release with files and sampler code of the run in ``folder``; None if none has."""
    run = manifest.verify_run(folder)
    for number in reversed(releases(repository)):
        try:
            release = read_release(repository, number)
        except CestaError:
            continue  # it is damaged, so it is nobody's equal
        code = (release.sampler_code, release.part_code) == (run.sampler_code, run.part_code)
        if release.digest == run.digest and code and is_trusted(repository, number):
            return number
    return None


def _stage(run: RunManifest, folder: Path, staging: Path, models: dict[str, str]) -> None:
    """Copy the run into its models' folders, without the release's number and the manifest."""
    sampler, scorer, ensemble = (staging / models[model] for model in MODELS)
    shutil.copytree(folder / ARRAYS, sampler / ARRAYS)
    copy_sampler_code(sampler)
    scorer.mkdir()
    for name in (GRAPH, TABLES):
        if (folder / name).exists():  # only a graph with large tables has a second file
            shutil.copy2(folder / name, scorer / name)
    ensemble.mkdir()  # the manifest goes there: an object store cannot hold an empty folder
    for part in run.contract.parts or {}:
        copy_part(part, sampler, run.files, staging / models[part])
    for further in run.contract.ensembles or {}:
        (staging / further).mkdir()
        (staging / further / PLACEHOLDER).touch()  # likewise


def _named(folder: str, files: dict[str, FileRecord]) -> dict[str, FileRecord]:
    return {f"{folder}/{name}": file for name, file in files.items()}


def _write_manifest(run: RunManifest, release: int, staging: Path, models: dict[str, str]) -> None:
    created_at = datetime.now(UTC).isoformat(timespec="seconds")
    files = {
        f"{models[SCORER if name in (GRAPH, TABLES) else SAMPLER]}/{release}/{name}": file
        for name, file in (dict(run.files) | sampler_code()).items()
    }
    for part in run.contract.parts or {}:
        arrays = {name: run.files[name] for name in array_names(part, run.files)}
        files |= _named(f"{models[part]}/{release}", part_code(part) | arrays)
    for ensemble in run.contract.ensembles or {}:
        placeholder = describe([staging / ensemble / PLACEHOLDER], staging / ensemble)
        files |= _named(f"{ensemble}/{release}", placeholder)
    manifest.write(run.published(release, created_at, files), staging / ENSEMBLE)
