"""A release's own contract: the tensors of its models, whatever the checkout's config.pbtxt says."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final, NamedTuple, Self

from tritonclient.grpc import model_config_pb2

from operations.errors import CestaError
from operations.records.contract import ENSEMBLE, MORE_ENSEMBLES, MORE_PARTS, SAMPLER, SCORER, Contract
from operations.records.manifest import ContractRecord, ModelRecord, RunManifest, TensorRecords
from operations.records.place import Place

# The contract of the releases that commit 85684cf published. Keys that a manifest lacks have these values,
# and every later contract has these inputs.
FIRST: Final = Contract(basket_slots=200, candidates=128, features=26, answers=20)
FIRST_INPUTS: Final[TensorRecords] = {
    "basket": ("STRING", (-1,)),
    "user_id": ("STRING", (1,)),
    "exclude": ("STRING", (-1,)),
    "categories": ("STRING", (-1,)),
}
DIGEST_LENGTH: Final = 8  # hex digits


class ModelTensors(NamedTuple):
    """The inputs and outputs of one model."""

    inputs: TensorRecords
    outputs: TensorRecords


@dataclass(frozen=True)
class ServedContract:
    """The sizes and tensors of a release. Equal ones can be versions of one Triton model."""

    sizes: Contract
    inputs: TensorRecords  # of the ensemble
    outputs: TensorRecords
    sampler_outputs: TensorRecords
    more: Mapping[str, ModelTensors] = field(default_factory=dict)  # of further parts and ensembles

    @classmethod
    def of(cls, record: ContractRecord) -> Self:
        """A manifest's contract. In older manifests, outputs beside the answer are the sampler's."""
        recorded = {name: getattr(record, name) for name in vars(FIRST)}
        sizes = Contract(**vars(FIRST) | {n: size for n, size in recorded.items() if size is not None})
        inputs = FIRST_INPUTS if record.inputs is None else record.inputs
        outputs = _answer(sizes) if record.outputs is None else record.outputs
        sampler = record.sampler_outputs
        if sampler is None:
            added = {name: tensor for name, tensor in outputs.items() if name not in _answer(sizes)}
            sampler = {**_candidates(sizes), **added}
        return cls(sizes, inputs, outputs, sampler, _more(record))

    @property
    def tensors(self) -> dict[str, ModelTensors]:
        """The tensors of each model. What is no answer yet goes from sampler to scorer."""
        handed_over = {n: tensor for n, tensor in self.sampler_outputs.items() if n not in self.outputs}
        scored = {n: tensor for n, tensor in self.outputs.items() if n not in self.sampler_outputs}
        return {
            SAMPLER: ModelTensors(self.inputs, self.sampler_outputs),
            SCORER: ModelTensors(handed_over, scored),
            ENSEMBLE: ModelTensors(self.inputs, self.outputs),
            **self.more,
        }

    @property
    def digest(self) -> str:
        """A short name that contracts with other sizes or tensors do not have."""
        described = asdict(self)
        if not self.more:
            del described["more"]  # as older versions named their contracts
        text = json.dumps(described, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def check_servable(described: RunManifest, path: Place) -> None:
    """Raise CestaError if this version of cesta cannot serve the contract in the manifest at ``path``."""
    if unknown := sorted(described.contract.model_extra or {}):
        raise CestaError(
            f'{path}: the contract has the key "{unknown[0]}", which this version of cesta does not know; '
            "use the version that exported it, or a newer one"
        )
    _check_models(described.contract, path)
    contract = ServedContract.of(described.contract)
    sides = [
        ("input", contract.inputs, FIRST_INPUTS),
        ("output", contract.outputs, _answer(contract.sizes)),
        ("sampler output", contract.sampler_outputs, _candidates(contract.sizes)),
    ]
    for model, (inputs, outputs) in contract.more.items():
        sides += [(f"{model} input", inputs, {}), (f"{model} output", outputs, {})]
    for side, tensors, needed in sides:
        for name, tensor in needed.items():
            if tensors.get(name) != tensor:
                raise CestaError(
                    f"{path}: the contract's {side} {name} is {_text(tensors.get(name))}; its sizes and its "
                    f"clients need {_text(tensor)}; {described.WAY_OUT}"
                )
        for name, tensor in tensors.items():
            if f"TYPE_{tensor[0]}" not in model_config_pb2.DataType.keys() or not tensor[1]:  # noqa: SIM118 - no dict
                raise CestaError(
                    f"{path}: the contract's {side} {name} is {_text(tensor)}, which Triton does not know; "
                    f"{described.WAY_OUT}"
                )


def _more(record: ContractRecord) -> dict[str, ModelTensors]:
    models: dict[str, ModelRecord] = {**(record.parts or {}), **(record.ensembles or {})}
    return {model: ModelTensors(each.inputs, each.outputs) for model, each in models.items()}


def _check_models(record: ContractRecord, path: Place) -> None:
    """Raise CestaError for a part or an ensemble that this version of cesta does not know."""
    for what, models, known in (
        ("part", record.parts, MORE_PARTS),
        ("ensemble", record.ensembles, MORE_ENSEMBLES),
    ):
        if unknown := sorted({*(models or {})} - {*known}):
            raise CestaError(
                f'{path}: the contract has the {what} "{unknown[0]}", which this version of cesta does not '
                "know; use the version that exported it, or a newer one"
            )


def _answer(sizes: Contract) -> TensorRecords:
    """The outputs that every client reads."""
    k = (sizes.answers,)
    return {"item_ids": ("STRING", k), "scores": ("FP32", k), "reasons": ("INT32", k)}


def _candidates(sizes: Contract) -> TensorRecords:
    """The tensors that every sampler hands to its scorer."""
    rows = sum(sizes.rows.values())
    features = (sizes.candidates, sizes.features)
    return {"rows": ("INT32", (rows,)), "candidate_features": ("FP32", features)}


def _text(tensor: tuple[str, tuple[int, ...]] | None) -> str:
    if tensor is None:
        return "missing"
    kind, dims = tensor
    return f"{kind} [{', '.join(map(str, dims))}]"
