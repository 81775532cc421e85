"""The served graph for chunks of the catalog: the same nodes and tables up to the scores, without the choice.

The served graph ends with the best K of C candidates. Cut before that, and with another C, it gives the
scores of any number of items. Its large tables stay in their file, which all processes map.
"""

from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ensemble.explanation.scorer import TABLES_FOLDER
from operations.explaining.cut_graph import cut_before_choice
from operations.records.contract import Contract


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
