"""The served graph without its choice of the best: up to the scores of its candidates, or of more items.

The served graph ends with the best K of C candidates. Cut before that, and with another C, it gives the
scores of any number of items.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ensemble.explanation.scored_graph import ScoredGraph
from operations.errors import CestaError
from operations.records.contract import Contract

WIDE: Final = "wide_weights"
BIAS: Final = "item_bias"
ADDITIVE: Final = {"Add", "Squeeze", "Where"}  # Where replaces the score of padding


def scored_graph(graph: Path, contract: Contract) -> ScoredGraph:
    """The graph of a release up to the scores of its candidates, with its wide term.

    Raises CestaError unless the wide term and the bias reach the score by additions alone: else its weights
    are no part of the score.
    """
    model, score = cut_before_choice(graph, contract, contract.candidates)
    bias = _bias_output(model.graph, graph)
    (weights,) = (tensor for tensor in model.graph.initializer if tensor.name == WIDE)
    _require_additive(model.graph, score, graph)
    biases = helper.make_tensor_value_info(bias, TensorProto.FLOAT, ["batch", contract.candidates, 1])
    model.graph.output.append(biases)
    wide = numpy_helper.to_array(weights)[:, 0].astype(np.float64)
    return ScoredGraph(model.SerializeToString(), score, bias, tuple(wide.tolist()), graph.parent)


def cut_before_choice(graph: Path, contract: Contract, width: int) -> tuple[onnx.ModelProto, str]:
    """The model of a release for ``width`` candidates up to their scores, and the name of these.

    Raises CestaError for a graph that does not split its rows, or choose the best, as cesta's graphs do.
    """
    model = onnx.load_model(str(graph), load_external_data=False)
    by_type = {node.op_type: node for node in model.graph.node}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    if not {"Split", "TopK"} <= by_type.keys() or by_type["Split"].input[1] not in constants:
        raise CestaError(f"{graph} has no Split and TopK as cesta's graphs have; export the release again")
    sizes, scores = by_type["Split"].input[1], by_type["TopK"].input[0]
    parts = [1, contract.basket_slots, width, width]
    constants[sizes].CopyFrom(numpy_helper.from_array(np.array(parts, np.int64), sizes))
    _keep_only_for(model.graph, scores)
    shapes = {"rows": [sum(parts)], "candidate_features": [width, contract.features]}
    for value in model.graph.input:
        kind = value.type.tensor_type.elem_type
        value.CopyFrom(helper.make_tensor_value_info(value.name, kind, ["batch", *shapes[value.name]]))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(scores, TensorProto.FLOAT, ["batch", width]))
    return model, scores


def _keep_only_for(graph: onnx.GraphProto, output: str) -> None:
    """Drop the nodes and constants that ``output`` does not depend on; item ids are most of the graph."""
    needed, nodes = {output}, []
    for node in reversed(graph.node):
        if needed & set(node.output):
            nodes.append(node)
            needed |= set(node.input)
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(nodes))
    graph.initializer.extend(constants)


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
