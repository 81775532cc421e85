"""A sampler for tests of releases: candidates drawn at random from seed and basket; nothing to compile.

Loads in a second where the real one takes four, and answers of two seeds have nothing in common.
"""

import hashlib
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

PROPOSED = 40  # of C candidates; the others are padding
FURTHER = ("store_id", "exclude_categories", "items", "history", "history_ages")


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
            outputs = propose(self._sizes, baskets) | {"digest": digests_of(request, queries)}
            tensors = [pb_utils.Tensor(*named) for named in outputs.items()]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses


def propose(sizes: Any, baskets: Sequence[Sequence[bytes]]) -> dict[str, Any]:
    """The scorer's inputs; `sizes` are seed, items, and the contract's L, C and F."""
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


def digests_of(request: Any, queries: int) -> Any:
    """(batch, 1): the digest of each query, as ensemble/candidate_sampler/digest.py defines it."""
    columns = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
    names = ("basket", "user_id", "exclude", "categories")
    digests = []
    for i in range(queries):
        written = b"".join(_written(columns[name][i] if name in columns else ()) for name in names)
        written += b"".join(_further(name, columns, i) for name in FURTHER if name in columns)
        digests.append([hashlib.sha256(written).hexdigest().encode()])
    return np.array(digests, object)


def _further(name: str, columns: dict[str, Any], i: int) -> bytes:
    values = columns[name][i]
    if name == "history_ages":
        ages = np.array([age for age, item in zip(values, columns["history"][i], strict=True) if item], "<f4")
        written = struct.pack("<I", len(ages)) + ages.tobytes() if len(ages) else b""
    else:
        written = _written(values) if any(values) else b""
    return struct.pack(f"<I{len(name)}s", len(name), name.encode()) + written if written else b""


def _written(values: Sequence[bytes]) -> bytes:
    ids = list(filter(None, values))
    return b"".join([struct.pack("<I", len(ids)), *(struct.pack(f"<I{len(i)}s", len(i), i) for i in ids)])
