"""Run folder → release: a numbered version of all three models in a published repository.

A release becomes active when the ensemble's config.pbtxt names it, the last thing that is written: until then
whoever starts a server gets the release before.
"""

import json
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import onnx
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from export_scripts import manifest
from export_scripts.contract import MODEL_REPOSITORY, MODELS, read_config, read_contract
from export_scripts.errors import CestaError

SAMPLER, SCORER, ENSEMBLE = MODELS
SAMPLER_CODE = Path(__file__).resolve().parent.parent / "ensemble" / "candidate_sampler"


def publish(run: Path, repository: Path) -> int:
    """Copy ``run`` into ``repository`` as its next release, make it the active one, return its number.

    Raises CestaError if the run's files are not what its manifest lists or its graph breaks the contract.
    """
    described = manifest.verify(run)
    check_contract(run / "model.onnx")
    repository.mkdir(parents=True, exist_ok=True)
    # In the repository, so that renaming in is one step of one file system; the dot hides it from Triton.
    staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=repository))
    try:
        active = active_release(repository)
        release = next_release(repository)
        _stage(run, staging)
        manifest.write({"release": release, "created_at": datetime.now(UTC).isoformat()} | described, staging / ENSEMBLE)
        for model in MODELS:
            (repository / model).mkdir(exist_ok=True)
            (staging / model).rename(repository / model / str(release))
        _write_configs(repository, staging, release, active)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return release


def active_release(repository: Path) -> int | None:
    """The release that the ensemble is pinned to; None if nothing was published."""
    config = repository / ENSEMBLE / "config.pbtxt"
    return read_config(config).ensemble_scheduling.step[0].model_version if config.exists() else None


def next_release(repository: Path) -> int:
    """One more than the highest number that any of the models has."""
    taken = [int(p.name) for model in MODELS for p in (repository / model).glob("*") if p.name.isdigit()]
    return max(taken, default=0) + 1


def check_contract(graph: Path) -> None:
    """Hold a scorer's graph to its config.pbtxt: names, types, dims. Raises CestaError naming the difference."""
    config = read_config(MODEL_REPOSITORY / SCORER / "config.pbtxt")
    model = onnx.load(str(graph)).graph
    for side, tensors, values in (("input", config.input, model.input), ("output", config.output, model.output)):
        expected = {t.name: (_ONNX_TYPES[model_config_pb2.DataType.Name(t.data_type)], list(t.dims)) for t in tensors}
        got = {
            v.name: (v.type.tensor_type.elem_type, [d.dim_value for d in v.type.tensor_type.shape.dim][1:]) for v in values
        }
        for name in sorted(expected.keys() | got.keys()):
            if expected.get(name) != got.get(name):
                raise CestaError(
                    f"{graph}: {side} {name} is {got.get(name, 'missing')}, config.pbtxt says "
                    f"{expected.get(name, 'nothing')} (ONNX type, dims); export and contract must agree"
                )


_ONNX_TYPES = {
    "TYPE_STRING": onnx.TensorProto.STRING,
    "TYPE_FP32": onnx.TensorProto.FLOAT,
    "TYPE_INT32": onnx.TensorProto.INT32,
}


def _stage(run: Path, staging: Path) -> None:
    """The three version folders of the release, without their numbers."""
    code = shutil.ignore_patterns("__pycache__")
    shutil.copytree(SAMPLER_CODE, staging / SAMPLER, ignore=code)
    shutil.copytree(run / "arrays", staging / SAMPLER / "arrays")
    (staging / SCORER).mkdir()
    shutil.copy2(run / "model.onnx", staging / SCORER / "model.onnx")
    (staging / ENSEMBLE).mkdir()  # the manifest keeps it from being empty, which object stores cannot hold


def _write_configs(repository: Path, staging: Path, release: int, active: int | None) -> None:
    """Parts first, ensemble last: its rename is the moment at which the release becomes the active one."""
    kept = sorted({release} | ({active} if active else set()))
    for model in MODELS:
        config = read_config(MODEL_REPOSITORY / model / "config.pbtxt")
        config.version_policy.specific.versions.extend([release] if model == ENSEMBLE else kept)
        for step in config.ensemble_scheduling.step:
            step.model_version = release
        partial = staging / f"{model}.pbtxt"
        partial.write_text(text_format.MessageToString(config))
        partial.replace(repository / model / "config.pbtxt")


def read_release(repository: Path) -> tuple[int, dict[str, object]]:
    """Number and manifest of the active release. Raises CestaError if there is none."""
    release = active_release(repository)
    if release is None:
        raise CestaError(f'no release in {repository}; run "make demo" or "cesta publish" first')
    return release, json.loads((repository / ENSEMBLE / str(release) / manifest.NAME).read_text())
