"""A sampler for tests of releases: candidates drawn at random from seed and basket; nothing to compile.

Loads in a second where the real one takes four, and answers of two seeds have nothing in common.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

PROPOSED = 40  # of C candidates; the others are padding


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self._arrays = Path(args["model_repository"]) / args["model_version"] / "arrays"
        self._sizes = np.load(self._arrays / "sizes.npy")

    def execute(self, requests: list[Any]) -> list[Any]:
        import triton_python_backend_utils as pb_utils

        responses = []
        for request in requests:
            basket = pb_utils.get_input_tensor_by_name(request, "basket")  # optional, as all inputs are
            queries = len(request.inputs()[0].as_numpy())
            baskets = basket.as_numpy() if basket else [[]] * queries
            tensors = [pb_utils.Tensor(*named) for named in propose(self._sizes, baskets).items()]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses


def propose(sizes: Any, baskets: Sequence[Sequence[bytes]]) -> dict[str, Any]:
    """The sampler's outputs; `sizes` are seed, items, and the contract's L, C and F."""
    seed, items, slots, width, features = sizes
    n = len(baskets)
    rows = np.zeros((n, 1 + slots + 2 * width), np.int32)
    values = np.zeros((n, width, features), np.float32)
    candidates, sources = rows[:, 1 + slots :][:, :width], rows[:, -width:]
    for i, basket in enumerate(baskets):
        rng = np.random.default_rng([seed, zlib.crc32(b" ".join(sorted(filter(None, basket))))])
        candidates[i, :PROPOSED] = rng.permutation(items)[:PROPOSED] + 1
        values[i, :PROPOSED] = rng.normal(size=(PROPOSED, features))
        sources[i, :PROPOSED] = rng.integers(1, 32, PROPOSED)
    return {"rows": rows, "candidate_features": values}
