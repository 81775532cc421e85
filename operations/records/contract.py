"""The sizes and tensors that sampler, scorer and client must agree on; config.pbtxt decides them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from google.protobuf import text_format

from ensemble.candidate_sampler.features import FEATURES
from operations.errors import CestaError
from operations.records.place import Place
from operations.shipped import find_shipped

if TYPE_CHECKING:
    from tritonclient.grpc import model_config_pb2

MODEL_REPOSITORY: Final = find_shipped("model_repository")
MODELS: Final = ("candidate_sampler", "ncf_scorer", "recommender")  # in the order of loading: parts first
SAMPLER, SCORER, ENSEMBLE = MODELS
# What a release may have besides, in the order of loading: parts, and the ensembles that chain parts.
MORE_PARTS: Final = ("item_lists",)
MORE_ENSEMBLES: Final = ("lists",)
(ITEM_LISTS,), (LISTS,) = MORE_PARTS, MORE_ENSEMBLES
GRAPH: Final = "model.onnx"  # the name that Triton's C++ backend asks for
TABLES: Final = "model.data"  # beside the graph: its tables, if they are large
_KINDS: Final = "|".join((SAMPLER, SCORER, *MORE_PARTS))
PART: Final = rf"({_KINDS})(_[0-9a-f]{{8}})?"  # the second group: see releases/models/placing.py
NAMED: Final = "configs"  # the folder of named configs; Triton reads --model-config-name from it, too

Config: TypeAlias = "model_config_pb2.ModelConfig"
Tensors = dict[str, tuple[str, list[int]]]  # name → type, dims


@dataclass(frozen=True)
class Contract:
    """The sizes L (basket slots), C (candidates), F (features) and K (answers)."""

    basket_slots: int
    candidates: int
    features: int
    answers: int

    @property
    def rows(self) -> dict[str, int]:
        """The parts of the tensor ``rows`` that the sampler hands to the scorer: name → width, in order."""
        c = self.candidates
        return {"user_row": 1, "basket_rows": self.basket_slots, "candidate_rows": c, "candidate_sources": c}


def kind_of(model: str) -> str | None:
    """The part, such as SAMPLER, of which a model holds versions, whatever their contract; else None."""
    found = re.fullmatch(PART, model)
    return found[1] if found else None


def holds_releases(model: str) -> bool:
    """Does each version folder of a Triton model belong to a release?"""
    return model in (ENSEMBLE, *MORE_ENSEMBLES) or kind_of(model) is not None


def read_config(path: Place) -> Config:
    """Read a config.pbtxt. Raises CestaError, which names line and column of a syntax error."""
    from tritonclient.grpc import model_config_pb2  # not above: grpc takes 0.2 s and 25 MiB of every command

    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as e:
        raise CestaError(f"{path}: {e}") from None


def tensors(side: Iterable["model_config_pb2.ModelInput | model_config_pb2.ModelOutput"]) -> Tensors:
    """A config's inputs or outputs: name → (type without "TYPE_", dims without the batch axis)."""
    from tritonclient.grpc import model_config_pb2  # as above

    type_name = model_config_pb2.DataType.Name
    return {t.name: (type_name(t.data_type).removeprefix("TYPE_"), list(t.dims)) for t in side}


def read_contract(models: Path = MODEL_REPOSITORY) -> Contract:
    """The contract of a model repository.

    Raises CestaError if config.pbtxt and features.py differ in the number of features.
    """
    outputs = tensors(read_config(models / SAMPLER / "config.pbtxt").output)
    answers = tensors(read_config(models / SCORER / "config.pbtxt").output)
    candidates, features = outputs["candidate_features"][1]
    if features != len(FEATURES):
        raise CestaError(
            f"candidate_features has {features} columns in config.pbtxt, features.py names {len(FEATURES)}"
        )
    basket_slots = outputs["rows"][1][0] - 1 - 2 * candidates
    return Contract(basket_slots, candidates, features, answers["item_ids"][1][0])
