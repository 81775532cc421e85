"""The served graph for chunks of the catalog: the same nodes and tables up to the scores, without the choice.

The served graph ends with the best K of C candidates. Cut before that, and with another C, it gives the
scores of any number of items. Its large tables stay in their file, which all processes map.
"""

from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from operations.errors import CestaError
from operations.records.contract import Contract

TABLES_FOLDER: Final = "session.model_external_initializers_file_folder_path"


class ChunkScorer:
    """Scores chunks of ``width`` items by the graph of a release, with one thread."""

    def __init__(self, graph: Path, contract: Contract, width: int):
        model, self._output = cut_before_choice(graph, contract, width)
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry(TABLES_FOLDER, str(graph.parent))
        self._session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def score(self, rows: NDArray[np.int32], features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(batch, 1 + L + 2 width), (batch, width, F) → (batch, width); row 0 scores PADDING_SCORE."""
        inputs = {"rows": rows, "candidate_features": features}
        scores: NDArray[np.float32] = self._session.run([self._output], inputs)[0]
        return scores


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
