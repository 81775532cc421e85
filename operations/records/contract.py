"""The sizes that sampler, scorer and client must agree on, read from where they are decided: config.pbtxt."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from ensemble.candidate_sampler.features import FEATURES
from operations.errors import CestaError

MODEL_REPOSITORY = Path(__file__).resolve().parents[2] / "model_repository"
MODELS = ("candidate_sampler", "ncf_scorer", "recommender")  # in the order of loading: parts first
SAMPLER, SCORER, ENSEMBLE = MODELS
GRAPH = "model.onnx"  # the name that Triton's C++ backend asks for
TABLES = "model.data"  # beside it, the tables of a graph with large ones
NAMED = "configs"  # where Triton, too, looks for the configs of --model-config-name

Tensors = dict[str, tuple[str, list[int]]]


@dataclass(frozen=True)
class Contract:
    """The sizes L (basket slots), C (candidates), F (features) and K (answers)."""

    basket_slots: int
    candidates: int
    features: int
    answers: int

    @property
    def rows(self) -> dict[str, int]:
        """The parts of the tensor ``rows`` between the steps, with their widths, in order."""
        c = self.candidates
        return {"user_row": 1, "basket_rows": self.basket_slots, "candidate_rows": c, "candidate_sources": c}


def read_config(path: Path) -> model_config_pb2.ModelConfig:
    """A config.pbtxt as Triton reads it. Raises CestaError, for a syntax error with line and column."""
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as e:
        raise CestaError(f"{path}: {e}") from None


def tensors(side: Iterable[model_config_pb2.ModelInput | model_config_pb2.ModelOutput]) -> Tensors:
    """Name → (type without "TYPE_", dims without the batch axis) of a config's inputs or outputs."""
    type_name = model_config_pb2.DataType.Name
    return {t.name: (type_name(t.data_type).removeprefix("TYPE_"), list(t.dims)) for t in side}


def read_contract(models: Path = MODEL_REPOSITORY) -> Contract:
    """The contract of a model repository. Raises CestaError if the sampler's features are not as many."""
    outputs = tensors(read_config(models / SAMPLER / "config.pbtxt").output)
    answers = tensors(read_config(models / SCORER / "config.pbtxt").output)
    candidates, features = outputs["candidate_features"][1]
    if features != len(FEATURES):
        raise CestaError(
            f"candidate_features has {features} columns in config.pbtxt, features.py names {len(FEATURES)}"
        )
    basket_slots = outputs["rows"][1][0] - 1 - 2 * candidates
    return Contract(basket_slots, candidates, features, answers["item_ids"][1][0])
