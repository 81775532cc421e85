"""Is a release what its publisher signed, and does it fit the contract in its manifest?"""

import io
import json
from typing import TYPE_CHECKING, Final

import numpy as np

from operations.errors import CestaError
from operations.records.contract import GRAPH, SAMPLER, SCORER, Tensors
from operations.records.manifest import ContractRecord, ReleaseManifest, RunManifest
from operations.records.place import Place
from operations.releases.models.contracts import ServedContract, check_servable
from operations.releases.models.placing import models_of, owner_of
from operations.releases.repository import manifest_place, require_active
from operations.releases.signatures.intact import check_intact
from operations.releases.signatures.trust import Trust
from operations.releases.stores.store import Repository

if TYPE_CHECKING:
    from collections.abc import Iterable

    from onnx import ValueInfoProto

ARRAYS: Final = "arrays"  # the sampler's, beside its code
LIMITS: Final = "limits.json"
PRIOR: Final = "prior.weights.npy"  # a weight per feature


def verify_release(
    repository: Repository,
    release: int | None = None,
    trust: Trust | None = None,
    files: Repository | None = None,
) -> ReleaseManifest:
    """Check a release, by default the active one: signature, files, contract. Returns its manifest.

    ``files`` is the repository in which its files lie, if that is another one.

    Raises CestaError naming a signature that is missing or not trusted (by default: ``find_trust``), or the
    first file that is missing, altered, foreign or breaks the contract.
    """
    number = require_active(repository) if release is None else release
    files = files or repository
    described, place = check_intact(files, number, trust), manifest_place(files, number)
    models = models_of(described)
    _check_models(described, place)
    graph = files / f"{models[SCORER]}/{number}/{GRAPH}"
    arrays = files / f"{models[SAMPLER]}/{number}/{ARRAYS}"
    check_contract(described, place, graph=graph, arrays=arrays)
    _check_neighbours(described, models[SAMPLER], repository)
    return described


def check_contract(described: RunManifest, path: Place, *, graph: Place, arrays: Place) -> None:
    """Raise CestaError if this cesta cannot serve the contract of a manifest, or if files do not fit it."""
    check_servable(described, path)
    k = ServedContract.of(described.contract).sizes.answers
    for number, pair in enumerate(described.golden):
        if (count := len(pair.answer.item_ids)) != k:
            raise CestaError(
                f"{path}: golden answer {number} has {count} items, the contract has {k}; {described.WAY_OUT}"
            )
    _check_graph(graph, described.contract)
    _check_arrays(arrays, described)


def _check_models(described: ReleaseManifest, place: Place) -> None:
    """Raise CestaError if a release has no files of a part or an ensemble in its contract."""
    wanted = {*(described.contract.parts or {}), *(described.contract.ensembles or {})}
    if missing := sorted(wanted - models_of(described).keys()):
        raise CestaError(f"{place} lists no file of {missing[0]}; {described.WAY_OUT}")


def _check_graph(graph: Place, contract: ContractRecord) -> None:
    """Compare a scorer's graph with its contract; CestaError names the first tensor that differs."""
    import onnx  # half a second that "cesta release list" does not need

    model = onnx.load_model_from_string(graph.read_bytes()).graph
    scorer = ServedContract.of(contract).tensors[SCORER]
    sides = (("input", scorer.inputs, model.input), ("output", scorer.outputs, model.output))
    for side, declared, values in sides:
        expected: Tensors = {name: (kind, list(dims)) for name, (kind, dims) in declared.items()}
        actual = _onnx_tensors(values)
        for name in sorted(expected.keys() | actual.keys()):
            if expected.get(name) != actual.get(name):
                raise CestaError(
                    f"{graph}: {side} {name} is {actual.get(name, 'missing')}, the manifest's contract says "
                    f"{expected.get(name, 'nothing')}; export and contract must agree"
                )


def _check_arrays(arrays: Place, described: RunManifest) -> None:
    """Compare the sizes that the sampler's arrays hold with the contract."""
    contract = ServedContract.of(described.contract).sizes
    if (place := arrays / LIMITS).exists():
        limits = json.loads(place.read_text(encoding="utf-8"))
        for name, expected in (("capacity", contract.candidates), ("basket_slots", contract.basket_slots)):
            if limits.get(name) != expected:
                raise CestaError(
                    f"{place}: {name} is {limits.get(name)}, the manifest's contract says {expected}; "
                    f"{described.WAY_OUT}"
                )
    if (place := arrays / PRIOR).exists():
        (count,) = np.load(io.BytesIO(place.read_bytes())).shape
        if count != contract.features:
            raise CestaError(
                f"{place} has the weights of {count} features, the manifest's contract has "
                f"{contract.features}; {described.WAY_OUT}"
            )


def _check_neighbours(described: ReleaseManifest, model: str, repository: Repository) -> None:
    """Raise CestaError if a release shares its models with one of another contract.

    Two publishers that meet in an empty repository may cause this.
    """
    owner = owner_of(model, repository)
    if owner is not None and ServedContract.of(owner.contract) != ServedContract.of(described.contract):
        raise CestaError(
            f"release {described.release} lies in {repository / model} beside release {owner.release}, which "
            f"has another contract, and one config cannot serve both; {described.WAY_OUT}"
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
