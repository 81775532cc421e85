"""The sizes that sampler, scorer and client must agree on, read from where they are decided: config.pbtxt."""

from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from ensemble.candidate_sampler.features import FEATURES

from export_scripts.errors import CestaError

MODEL_REPOSITORY = Path(__file__).resolve().parent.parent / "model_repository"
MODELS = ("candidate_sampler", "ncf_scorer", "recommender")  # in the order of loading: parts first


@dataclass(frozen=True)
class Contract:
    """L, C, F and K of DESIGN's contract."""

    basket_slots: int
    candidates: int
    features: int
    answers: int


def read_config(path: Path) -> model_config_pb2.ModelConfig:
    """A config.pbtxt as Triton reads it. Raises CestaError with line and column of a syntax error."""
    try:
        return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
    except text_format.ParseError as e:
        raise CestaError(f"{path}: {e}") from None


def read_contract(models: Path = MODEL_REPOSITORY) -> Contract:
    """The contract of a model repository. Raises CestaError if the sampler's features are not as many."""
    outputs = {o.name: list(o.dims) for o in read_config(models / "candidate_sampler" / "config.pbtxt").output}
    answers = {o.name: list(o.dims) for o in read_config(models / "ncf_scorer" / "config.pbtxt").output}
    candidates, features = outputs["candidate_features"]
    if features != len(FEATURES):
        raise CestaError(f"candidate_features has {features} columns in config.pbtxt, features.py names {len(FEATURES)}")
    return Contract(outputs["basket_rows"][0], candidates, features, answers["item_ids"][0])
