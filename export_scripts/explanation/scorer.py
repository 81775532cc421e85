"""The served graph up to its scores, for candidates that are mixed of several, and its wide term.

The wide term must reach the score by additions alone: else its weights are no part of the score, and the
graph is refused.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export_scripts.scoring.graph import TABLES_FOLDER, cut_before_choice
from operations.errors import CestaError
from operations.records.contract import Contract

WIDE: Final = "wide_weights"
BIAS: Final = "item_bias"
ADDITIVE: Final = {"Add", "Squeeze", "Where"}  # Where replaces the score of padding

Float = NDArray[np.float32]


class CandidateScorer:
    """Scores the candidates of a release, C at a time, by its graph, with one thread."""

    def __init__(self, graph: Path, contract: Contract):
        model, score = cut_before_choice(graph, contract, contract.candidates)
        self._outputs = [score, _bias_output(model.graph, graph)]
        (weights,) = (t for t in model.graph.initializer if t.name == WIDE)
        self.wide = numpy_helper.to_array(weights)[:, 0].astype(np.float64)  # (F,)
        _require_additive(model.graph, score, graph)
        bias = helper.make_tensor_value_info(
            self._outputs[1], TensorProto.FLOAT, ["batch", contract.candidates, 1]
        )
        model.graph.output.append(bias)
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry(TABLES_FOLDER, str(graph.parent))
        self._session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def score(self, rows: NDArray[np.int32], features: Float) -> tuple[Float, Float]:
        """(batch, 1 + L + 2 C), (batch, C, F) → scores and biases, (batch, C) each."""
        inputs = {"rows": rows, "candidate_features": features}
        scores, bias = self._session.run(self._outputs, inputs)
        return scores, bias[:, :, 0]


def _bias_output(graph: onnx.GraphProto, file: Path) -> str:
    """The name of what the graph looks up in the table of biases."""
    names = [node.output[0] for node in graph.node if BIAS in node.input]
    if len(names) != 1 or WIDE not in {tensor.name for tensor in graph.initializer}:
        raise CestaError(f"{file} has no {WIDE} and {BIAS} as cesta's graphs have; export the release again")
    return names[0]


def _require_additive(graph: onnx.GraphProto, score: str, file: Path) -> None:
    """Raise CestaError unless the wide term and the bias are added to the score unchanged."""
    for table in (WIDE, BIAS):
        (node,) = (node for node in graph.node if table in node.input)
        for operation in _operations_between(graph, node.output[0], score):
            if operation not in ADDITIVE:
                raise CestaError(
                    f"{file} changes the wide term by {operation} after the sum, so its weights are no part "
                    "of the score; explain the release with the version of cesta that exported it"
                )


def _operations_between(graph: onnx.GraphProto, start: str, end: str) -> Iterable[str]:
    """The kinds of the nodes through which the value ``start`` reaches ``end``."""
    reached = {start}
    for node in graph.node:  # in the order of computation
        if reached & set(node.input):
            reached.add(node.output[0])
            yield node.op_type
        if end in reached:
            return
