"""The served graph up to its scores, for candidates that are mixed of several."""

from typing import Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ensemble.explanation.scored_graph import ScoredGraph

TABLES_FOLDER: Final = "session.model_external_initializers_file_folder_path"

Float = NDArray[np.float32]


class CandidateScorer:
    """Scores the candidates of a release, C at a time, by its graph, with one thread."""

    def __init__(self, graph: ScoredGraph):
        self._outputs = [graph.scores, graph.bias]
        self.wide = np.array(graph.wide, np.float64)  # (F,)
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry(TABLES_FOLDER, str(graph.tables))
        self._session = ort.InferenceSession(graph.model, options, providers=["CPUExecutionProvider"])

    def score(self, rows: NDArray[np.int32], features: Float) -> tuple[Float, Float]:
        """(batch, 1 + L + 2 C), (batch, C, F) → scores and biases, (batch, C) each."""
        inputs = {"rows": rows, "candidate_features": features}
        scores, bias = self._session.run(self._outputs, inputs)
        return scores, bias[:, :, 0]
