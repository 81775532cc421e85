"""The nearest by inner product among few vectors: all of them are compared, by an integer matrix product.

Vectors are kept as bytes, each with a scale of its own, and ONNX Runtime multiplies them with a batch of
queries by what the processor has for bytes: four products in the time of one in single precision, and the
vectors are read once for several queries. Sums of integers are exact, so neither the machine nor the other
queries of a batch change an answer. What the products say is sorted out here, in one compiled pass.
"""

from pathlib import Path

import numba
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from .largest import largest

Float = NDArray[np.float32]

# Of a query's components on either side of zero. With 63 two products of bytes fit into 16 bits, in which
# processors before VNNI add them up; more would overflow there, and 127 finds .002 more.
STEPS = 63
ZERO = STEPS + 1  # the byte that stands for it
QUERIES = 16  # multiplied at a time: more make no query cheaper, and their products take memory
TOPS = 6  # for each place of an answer: the largest score of some vectors each, by which most are passed over
LANES = 16  # the number of tops is a multiple of these


class Scan:
    """Compares queries with each of n vectors."""

    def __init__(self, graph: bytes | Path):
        """``graph``: an ONNX model as ``scan_graph`` makes it, or the file to which ``save`` wrote it."""
        self._graph = graph
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        model = str(graph) if isinstance(graph, Path) else graph
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        components = self._session.get_inputs()[0].shape[1]
        nobody = np.zeros((0, components), np.uint8)
        self._scales: Float = self._session.run(["scales"], {"queries": nobody})[0]
        self.shape = (len(self._scales), components)

    def save(self, file: Path) -> None:
        """Write the graph to ``file``."""
        graph = self._graph
        file.write_bytes(graph.read_bytes() if isinstance(graph, Path) else graph)

    def search(self, queries: Float, wanted: int) -> tuple[Float, NDArray[np.int64]]:
        """(batch, d) → (batch, wanted) scores and places of the nearest, lower places first; -1: no more.

        Scores are in units of the query's own, and lack its product with the vectors' mean.
        """
        scores = np.full((len(queries), wanted), -np.inf, np.float32)
        places = np.full((len(queries), wanted), -1, np.int64)
        steps = np.empty(queries.shape, np.uint8)
        _in_steps(queries, steps)
        for start in range(0, len(queries) if self.shape[0] and wanted else 0, QUERIES):
            part = slice(start, start + QUERIES)
            (products,) = self._session.run(["products"], {"queries": steps[part]})
            _select(products, self._scales, np.empty(self.shape[0], np.float32), scores[part], places[part])
        return scores, places


def scan_graph(vectors: Float) -> bytes:
    """The ONNX model by which ``Scan`` multiplies queries with ``vectors`` (n, d): d + 4 bytes for each."""
    from onnx import TensorProto, helper, numpy_helper  # here: a server opens graphs and makes none

    # What all have in common changes no order, and would leave the differences few of the 255 steps.
    middle = vectors.mean(0) if len(vectors) else np.float32(0)
    codes, scales = coded(vectors - middle)
    components = codes.shape[1]
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["queries", "codes", "zero"], ["products"])],
        "scan",
        [helper.make_tensor_value_info("queries", TensorProto.UINT8, ["batch", components])],
        [
            helper.make_tensor_value_info("products", TensorProto.INT32, ["batch", len(codes)]),
            helper.make_tensor_value_info("scales", TensorProto.FLOAT, [len(codes)]),
        ],
        [
            numpy_helper.from_array(np.ascontiguousarray(codes.T), "codes"),
            numpy_helper.from_array(np.array(ZERO, np.uint8), "zero"),
            numpy_helper.from_array(scales, "scales"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def coded(vectors: Float) -> tuple[NDArray[np.int8], Float]:
    """(n, d) → bytes (n, d) and scales (n,); their products are off by 1/254 of a vector's largest part."""
    scales = np.abs(vectors).max(1, initial=0).astype(np.float32) / np.float32(127)
    codes = np.round(vectors / np.where(scales > 0, scales, 1)[:, None])
    return codes.astype(np.int8), scales


@numba.njit(cache=True, nogil=True)
def _in_steps(queries, steps) -> None:  # type: ignore[no-untyped-def]
    """Fill `steps` with the components of each query in STEPS of its largest one, around ZERO."""
    for i in range(queries.shape[0]):
        longest = np.float32(0.0)
        for value in queries[i]:
            longest = max(longest, abs(value))
        per_step = np.float32(STEPS) / longest if longest > 0 else np.float32(0.0)
        for k in range(queries.shape[1]):
            steps[i, k] = np.uint8(np.rint(queries[i, k] * per_step) + np.float32(ZERO))


@numba.njit(nogil=True, fastmath={"nnan", "nsz"})
def _scale(products, scales, scores, tops):  # type: ignore[no-untyped-def]
    """Fill `scores` (n,), and `tops` (w,) with the largest of those whose places are alike modulo w."""
    tops[:] = np.float32(-np.inf)
    for start in range(0, scores.shape[0], tops.shape[0]):
        part = slice(start, min(start + tops.shape[0], scores.shape[0]))
        some, of, out = products[part], scales[part], scores[part]
        for i in range(out.shape[0]):
            out[i] = np.float32(some[i]) * of[i]
            tops[i] = max(tops[i], out[i])


@numba.njit(nogil=True)
def _keep(scores, tops, found, best, places):  # type: ignore[no-untyped-def]
    """Fill `best` and `places` with the largest scores, of equal ones those that come first.

    The wanted-th largest of the tops is reached by as many scores, so that no lower one is an answer.
    """
    wanted = min(places.shape[0], scores.shape[0])
    bound = largest(tops, wanted) if tops.shape[0] >= wanted else np.float32(-np.inf)
    n = 0
    for top in range(tops.shape[0]):
        if tops[top] >= bound:
            for place in range(top, scores.shape[0], tops.shape[0]):
                found[n] = place
                n += scores[place] >= bound
    least = largest(scores[found[:n]], wanted)
    kept = ties = 0
    for place in found[:n]:
        if scores[place] > least:
            best[kept], places[kept] = scores[place], place
            kept += 1
        ties += scores[place] == least
    for place in found[:n] if kept + ties == wanted else np.arange(scores.shape[0]):
        if kept < wanted and scores[place] == least:
            best[kept], places[kept] = least, place
            kept += 1


@numba.njit(cache=True, nogil=True)
def _select(products, scales, scores, best, places) -> None:  # type: ignore[no-untyped-def]
    n = scores.shape[0]
    width = n // max(n // (TOPS * places.shape[1]), 1)
    tops = np.empty(width - (width % LANES if width > LANES else 0), np.float32)
    found = np.empty(n + 1, np.int64)  # one more: written to before it is known to count
    for i in range(products.shape[0]):
        _scale(products[i], scales, scores, tops)
        _keep(scores, tops, found, best[i], places[i])
