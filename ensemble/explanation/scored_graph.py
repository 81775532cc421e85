"""What an explanation needs of a release's graph. It is cut where onnx is, and run where ONNX Runtime is."""

from dataclasses import dataclass
from pathlib import Path


class ExplanationError(Exception):
    """A release cannot be explained, or an explanation does not add up; the text has the way out."""


@dataclass(frozen=True)
class ScoredGraph:
    """The graph of a release up to the scores of its C candidates."""

    model: bytes  # ONNX, its large tables left out
    scores: str  # the name of the output (batch, C)
    bias: str  # the name of the output (batch, C, 1): the items' biases
    wide: tuple[float, ...]  # (F,) the weights of the wide term
    tables: Path  # the folder of the tables that were left out
