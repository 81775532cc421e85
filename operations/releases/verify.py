"""Is a release what its publisher signed, and does it fit the contract that it would be served under?"""

from typing import TYPE_CHECKING

from operations.errors import CestaError
from operations.records.contract import (
    GRAPH,
    MODEL_REPOSITORY,
    SCORER,
    Tensors,
    read_config,
    tensors,
)
from operations.records.manifest import ContractRecord, ReleaseManifest, RunManifest
from operations.records.place import Place
from operations.releases.intact import check_intact
from operations.releases.repository import manifest_place, require_active
from operations.releases.store import Repository
from operations.releases.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Iterable

    from onnx import ValueInfoProto


def verify_release(
    repository: Repository, release: int | None = None, trust: Trust | None = None
) -> ReleaseManifest:
    """Check a release, by default the active one: signature, files, contract. Returns its manifest.

    Raises CestaError naming a signature that is missing or not trusted (by default: ``find_trust``), or the
    first file that is missing, altered, foreign or breaks the contract.
    """
    number = require_active(repository) if release is None else release
    described = check_intact(repository, number, trust)
    check_contract(described, manifest_place(repository, number))
    check_graph(repository / SCORER / str(number) / GRAPH)
    return described


def check_contract(described: RunManifest, path: Place) -> None:
    """Raise CestaError if the manifest at ``path`` has other sizes or tensors than config.pbtxt."""
    ours, theirs = ContractRecord.of_checkout().json_object(), described.contract.json_object()
    if changed := [key for key in ours if ours[key] != theirs.get(key, ours[key])]:
        listed = ", ".join(f"{key} = {theirs[key]} (config.pbtxt: {ours[key]})" for key in changed)
        raise CestaError(f'{path} has another contract: {listed}; run "cesta export" and "cesta publish"')


def check_graph(graph: Place) -> None:
    """Compare a scorer's graph with its config.pbtxt; CestaError names the first tensor that differs."""
    import onnx  # half a second that "cesta release list" does not need

    config = read_config(MODEL_REPOSITORY / SCORER / "config.pbtxt")
    model = onnx.load_model_from_string(graph.read_bytes()).graph
    sides = (("input", config.input, model.input), ("output", config.output, model.output))
    for side, declared, values in sides:
        expected, actual = tensors(declared), _onnx_tensors(values)
        for name in sorted(expected.keys() | actual.keys()):
            if expected.get(name) != actual.get(name):
                raise CestaError(
                    f"{graph}: {side} {name} is {actual.get(name, 'missing')}, config.pbtxt says "
                    f"{expected.get(name, 'nothing')}; export and contract must agree"
                )


def _onnx_tensors(values: "Iterable[ValueInfoProto]") -> Tensors:
    """A graph's inputs or outputs as ``contract.tensors`` gives them; the first dim is the batch axis."""
    from onnx import TensorProto

    names: dict[int, str] = {
        TensorProto.STRING: "STRING",
        TensorProto.FLOAT: "FP32",
        TensorProto.INT32: "INT32",
    }
    types = {value.name: value.type.tensor_type for value in values}
    return {
        name: (names.get(t.elem_type, str(t.elem_type)), [d.dim_value for d in t.shape.dim][1:])
        for name, t in types.items()
    }
