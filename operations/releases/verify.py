"""A release is what its manifest says, and fits the contract that it would be served under."""

import json
from typing import Any

from operations.errors import CestaError
from operations.records import manifest
from operations.records.contract import (
    ENSEMBLE,
    GRAPH,
    MODEL_REPOSITORY,
    SCORER,
    Tensors,
    read_config,
    read_contract,
    tensors,
)
from operations.releases.repository import active_release, read_release, release_folders
from operations.releases.store import Repository


def verify_release(repository: Repository, release: int | None = None) -> dict[str, Any]:
    """Manifest of a release, by default of the active one, after everything it says was found to be so.

    Raises CestaError naming the first file that is missing, altered, foreign or breaks the contract.
    """
    number = active_release(repository) if release is None else release
    described = read_release(repository, number)
    folders = release_folders(repository, described["release"])
    own = repository / ENSEMBLE / str(number) / manifest.NAME
    if described["release"] != number:
        raise CestaError(
            f'{own} is the manifest of release {described["release"]}; run "cesta publish" again'
        )
    here = {path for folder in folders for path in folder.rglob("*") if "__pycache__" not in path.parts}
    present = manifest.describe(here - {own}, repository)
    manifest.check_files(described["files"], present, repository, way_out='run "cesta publish" again')
    check_contract(described, own)
    check_graph(repository / SCORER / str(number) / GRAPH)
    return described


def check_contract(described: dict[str, Any], path: Repository) -> None:
    """Raise CestaError if a manifest, read from ``path``, has other sizes or tensors than config.pbtxt."""
    front = read_config(MODEL_REPOSITORY / ENSEMBLE / "config.pbtxt")
    ours = vars(read_contract()) | {"inputs": tensors(front.input), "outputs": tensors(front.output)}
    now, then = json.loads(json.dumps(ours)), described["contract"]  # a manifest knows no tuples
    if changed := [key for key in now if now[key] != then.get(key, now[key])]:
        listed = ", ".join(f"{key} = {then[key]} (config.pbtxt: {now[key]})" for key in changed)
        raise CestaError(f'{path} has another contract: {listed}; run "cesta export" and "cesta publish"')


def check_graph(graph: Repository) -> None:
    """Hold a scorer's graph to its config.pbtxt. Raises CestaError naming the first tensor that differs."""
    import onnx  # half a second that "cesta release list" does not need

    config = read_config(MODEL_REPOSITORY / SCORER / "config.pbtxt")
    model = onnx.load_model_from_string(graph.read_bytes()).graph
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
    from onnx import TensorProto

    names = {TensorProto.STRING: "STRING", TensorProto.FLOAT: "FP32", TensorProto.INT32: "INT32"}
    types = {v.name: v.type.tensor_type for v in values}
    return {
        name: (names.get(t.elem_type, str(t.elem_type)), [d.dim_value for d in t.shape.dim][1:])
        for name, t in types.items()
    }
