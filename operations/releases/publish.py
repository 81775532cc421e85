"""Run folder → release: a numbered version of all three models in a published repository.

A release is there once its manifest is, the last thing that is moved in. Publishing changes nothing that is
served: ``promote.py`` does. Any number of publishers may work at once.
"""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from operations.errors import CestaError
from operations.records import manifest
from operations.records.contract import ENSEMBLE, GRAPH, MODELS, SAMPLER, SCORER, TABLES
from operations.records.sampler_code import check_sampler_code, copy_sampler_code, sampler_code
from operations.releases import history
from operations.releases.repository import active_release, read_release, releases, version_folders
from operations.releases.store import Repository, move_in, staging_folder, taken_numbers
from operations.releases.verify import check_contract, check_graph


def publish(run: Path, repository: Repository) -> int:
    """Copy ``run`` into ``repository`` as its next release, return its number. What is active stays so.

    Raises CestaError if the run's files are not what its manifest lists, if the sampler's code is not the one
    it was exported with, or if it breaks the contract of config.pbtxt or of the active release.
    """
    described = manifest.verify_run(run)
    check_sampler_code(described)
    check_contract(described, run / manifest.NAME)
    check_graph(run / GRAPH)
    check_same_contract(described, repository)
    with staging_folder(repository) as folder:
        _stage(run, folder)
        while True:
            release = next_release(repository)
            _describe(described, folder, release)
            if move_in(folder, repository, release):
                return release


def next_release(repository: Repository) -> int:
    """One more than the highest number that any of the models has or ever had."""
    taken = [int(path.name) for path in version_folders(repository)]
    return max([*taken, *taken_numbers(repository), *history.numbers(repository)], default=0) + 1


def published_as(run: Path, repository: Repository) -> int | None:
    """The newest release that holds the run and the sampler's code as it is now; None if none does."""
    described = manifest.verify_run(run)
    for release in reversed(releases(repository)):
        published = read_release(repository, release)
        if all(described[key] == published[key] for key in ("digest", "sampler_code")):
            return release
    return None


def check_same_contract(described: dict[str, Any], repository: Repository) -> None:
    """Raise CestaError if the active release has other tensors: both are served from one config.pbtxt."""
    if active_release(repository) is None:
        return
    now, then = described["contract"], read_release(repository)["contract"]
    if changed := [key for key in now if now[key] != then.get(key)]:
        listed = ", ".join(f"{key} = {now[key]} (active release: {then.get(key)})" for key in changed)
        raise CestaError(f"the contract changed: {listed}; publish into a new repository")


def _stage(run: Path, folder: Path) -> None:
    """The three version folders of the release, without their numbers and the manifest."""
    sampler, scorer, ensemble = (folder / model for model in MODELS)
    shutil.copytree(run / "arrays", sampler / "arrays")
    copy_sampler_code(sampler)
    scorer.mkdir()
    for name in _scorers(run):
        shutil.copy2(run / name, scorer / name)
    ensemble.mkdir()  # the manifest keeps it from being empty, which object stores cannot hold


def _describe(described: dict[str, Any], folder: Path, release: int) -> None:
    made = {"release": release, "created_at": datetime.now(UTC).isoformat(timespec="seconds")}
    files = {"files": _published_files(described, release)}
    manifest.write(made | described | files, folder / ENSEMBLE)


def _published_files(described: dict[str, Any], release: int) -> manifest.Files:
    """The run's files and the sampler's modules by the places where the release has them."""
    files = described["files"] | sampler_code()
    return {
        f"{SCORER if name in (GRAPH, TABLES) else SAMPLER}/{release}/{name}": about
        for name, about in files.items()
    }


def _scorers(run: Path) -> list[str]:
    """Names of the run's files that are the scorer's; only a graph with large tables has two."""
    return [name for name in (GRAPH, TABLES) if (run / name).exists()]
