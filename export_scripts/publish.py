"""Run folder → release: a numbered version of all three models in a published repository.

A release becomes active when the ensemble's config.pbtxt names it, the last thing that is written: until then
whoever starts a server gets the release before. One publisher at a time.
"""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnx
from google.protobuf import text_format

from export_scripts import manifest
from export_scripts.atomic import staged_folder
from export_scripts.contract import (
    ENSEMBLE,
    MODEL_REPOSITORY,
    MODELS,
    SAMPLER,
    SCORER,
    Tensors,
    read_config,
    tensors,
)
from export_scripts.errors import CestaError

SAMPLER_CODE = Path(__file__).resolve().parent.parent / "ensemble" / "candidate_sampler"
GRAPH = "model.onnx"  # the name that Triton's C++ backend asks for
STAGING = ".staging"  # in the repository: renaming in is one step. Triton lists it and never loads it
LAST = f"{ENSEMBLE}.pbtxt"  # the last thing that leaves the staging folder
ONNX_TYPES = {
    onnx.TensorProto.STRING: "STRING",
    onnx.TensorProto.FLOAT: "FP32",
    onnx.TensorProto.INT32: "INT32",
}


def publish(run: Path, repository: Path) -> int:
    """Copy ``run`` into ``repository`` as its next release, make it the active one, return its number.

    Raises CestaError if the run's files are not what its manifest lists, if the sampler's code is not the one
    it was exported with, or if it breaks the contract of config.pbtxt or of the active release.
    """
    described = manifest.verify_run(run)
    check_sampler_code(described)
    check_graph(run / GRAPH)
    check_same_contract(described, repository)
    repository.mkdir(parents=True, exist_ok=True)
    active, release = active_release(repository), next_release(repository)
    with staged_folder(repository / STAGING, marker=LAST) as folder:
        _stage(run, folder, described, release)
        _stage_configs(repository, folder, release, active)
    _move_in(repository / STAGING, repository, release)
    return release


def active_release(repository: Path) -> int | None:
    """The release that the ensemble is pinned to; None if nothing was published."""
    config = repository / ENSEMBLE / "config.pbtxt"
    if not config.exists():
        return None
    steps = read_config(config).ensemble_scheduling.step
    if not steps or steps[0].model_version < 1:
        raise CestaError(f"{config} pins no release; cesta did not publish it, choose another folder")
    return steps[0].model_version


def next_release(repository: Path) -> int:
    """One more than the highest number that any of the models has."""
    taken = [int(p.name) for model in MODELS for p in (repository / model).glob("*") if p.name.isdigit()]
    return max(taken, default=0) + 1


def read_release(repository: Path, release: int | None = None) -> dict[str, Any]:
    """Manifest of a release, by default of the active one. Raises CestaError if there is none."""
    number = active_release(repository) if release is None else release
    if number is None:
        raise CestaError(f'no release in {repository}; run "make demo" or "cesta publish" first')
    path = repository / ENSEMBLE / str(number) / manifest.NAME
    if not path.exists():
        raise CestaError(f"no release {number} in {repository}: {path} is missing")
    return manifest.read(path)


def verify_release(repository: Path, release: int | None = None) -> dict[str, Any]:
    """``read_release``, after the release's files were found to be as its manifest says; else CestaError."""
    described = read_release(repository, release)
    folders = [repository / model / str(described["release"]) for model in MODELS]
    here = {path for folder in folders for path in folder.rglob("*") if "__pycache__" not in path.parts}
    present = manifest.describe(here - {folders[-1] / manifest.NAME}, repository)
    manifest.check_files(described["files"], present, repository, way_out='run "cesta publish" again')
    return described


def is_published(run: Path, repository: Path) -> bool:
    """Is the run already the active release, with the sampler's code as it is now?"""
    if active_release(repository) is None:
        return False
    described, active = manifest.verify_run(run), read_release(repository)
    return all(described[key] == active[key] for key in ("digest", "sampler_code"))


def sampler_code() -> manifest.Files:
    """The sampler's modules, which every release holds a copy of."""
    return manifest.describe(SAMPLER_CODE.glob("*.py"), SAMPLER_CODE)


def check_sampler_code(described: dict[str, Any]) -> None:
    """Raise CestaError if a run's golden answers were made with other code than would be published."""
    if described["sampler_code"] != manifest.digest(sampler_code()):
        raise CestaError(f'{SAMPLER_CODE.name} was changed since the export; run "cesta export" again')


def check_graph(graph: Path) -> None:
    """Hold a scorer's graph to its config.pbtxt. Raises CestaError naming the first tensor that differs."""
    config = read_config(MODEL_REPOSITORY / SCORER / "config.pbtxt")
    model = onnx.load(str(graph)).graph
    sides = (("input", config.input, model.input), ("output", config.output, model.output))
    for side, declared, values in sides:
        expected, got = tensors(declared), _onnx_tensors(values)
        for name in sorted(expected.keys() | got.keys()):
            if expected.get(name) != got.get(name):
                raise CestaError(
                    f"{graph}: {side} {name} is {got.get(name, 'missing')}, config.pbtxt says "
                    f"{expected.get(name, 'nothing')}; export and contract must agree"
                )


def _onnx_tensors(values: Any) -> Tensors:
    """As ``contract.tensors``, of a graph's inputs or outputs: the first dim is the batch axis."""
    types = {v.name: v.type.tensor_type for v in values}
    return {
        name: (ONNX_TYPES.get(t.elem_type, str(t.elem_type)), [d.dim_value for d in t.shape.dim][1:])
        for name, t in types.items()
    }


def check_same_contract(described: dict[str, Any], repository: Path) -> None:
    """Raise CestaError if the active release has other tensors: both are served from one config.pbtxt."""
    if active_release(repository) is None:
        return
    now, then = described["contract"], read_release(repository)["contract"]
    if changed := [key for key in now if now[key] != then.get(key)]:
        listed = ", ".join(f"{key} = {now[key]} (active release: {then.get(key)})" for key in changed)
        raise CestaError(f"the contract changed: {listed}; publish into a new repository")


def _stage(run: Path, folder: Path, described: dict[str, Any], release: int) -> None:
    """The three version folders of the release, without their numbers."""
    sampler, scorer, ensemble = (folder / model for model in MODELS)
    shutil.copytree(run / "arrays", sampler / "arrays")
    for name in sampler_code():
        shutil.copy2(SAMPLER_CODE / name, sampler / name)
    scorer.mkdir()
    shutil.copy2(run / GRAPH, scorer / GRAPH)
    ensemble.mkdir()  # the manifest keeps it from being empty, which object stores cannot hold
    made = {"release": release, "created_at": datetime.now(UTC).isoformat(timespec="seconds")}
    manifest.write(made | described | {"files": _published_files(described, release)}, ensemble)


def _published_files(described: dict[str, Any], release: int) -> manifest.Files:
    """The run's files and the sampler's modules by the places where the release has them."""
    graph = {f"{SCORER}/{release}/{GRAPH}": described["files"][GRAPH]}
    rest = described["files"] | sampler_code()
    return graph | {f"{SAMPLER}/{release}/{name}": about for name, about in rest.items() if name != GRAPH}


def _stage_configs(repository: Path, folder: Path, release: int, active: int | None) -> None:
    """The three config.pbtxt; the parts keep the active release beside the new one, which a switch needs."""
    for model in MODELS:
        config = read_config(MODEL_REPOSITORY / model / "config.pbtxt")
        kept = {release} if model == ENSEMBLE or active is None else {active, release}
        config.version_policy.specific.versions.extend(sorted(kept))
        for step in config.ensemble_scheduling.step:
            step.model_version = release
        (folder / f"{model}.pbtxt").write_text(text_format.MessageToString(config), encoding="utf-8")


def _move_in(staging: Path, repository: Path, release: int) -> None:
    """Parts first, ensemble last: its config's rename is the moment at which the release becomes active."""
    for model in MODELS:
        (repository / model).mkdir(exist_ok=True)
        (staging / model).rename(repository / model / str(release))
    for model in MODELS:
        (staging / f"{model}.pbtxt").replace(repository / model / "config.pbtxt")
    staging.rmdir()


if __name__ == "__main__":
    from export_scripts.cli import main

    main("publish")
