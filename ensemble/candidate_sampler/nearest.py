"""The nearest items of a query by inner product: all are compared while they are few, by lists above.

Lists are faiss's inverted file. k-means parts the vectors, kept in half precision; a query reads the
``probes`` lists whose centres fit it best. The export builds either once, into a file of the release: an
ONNX model for the comparison of all, or the lists, which Triton's processes map.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import faiss
import numba
import numpy as np
from numpy.typing import NDArray

from .arrays import Retrieval, SamplerArrays
from .scan import Scan, scan_graph
from .user_vectors import user_vectors

Float = NDArray[np.float32]
Rows = NDArray[np.int32]

RECALL: Final = 0.98  # of what an exact search finds, at least
AIM: Final = 0.985  # on the sample, for other queries may find less: so many of 150 leave an error of .002
SAMPLE: Final = 500

# Times the root of the number of vectors. With twice as many lists the build takes four times as long
# (k-means) and a query no less: the centres are read for every one.
LISTS: Final = 2.0
POINTS_PER_LIST: Final = 64  # that k-means sees
# It sees vectors by this power of their length, since long ones are what queries find: drawn alike, and begun
# anywhere, chance parts a million vectors so that the same recall takes from 60 to 330 lists.
LENGTH_POWER: Final = 4
ROUNDS: Final = 10  # of k-means
SEED: Final = 7

# A score that is less by this share only is as good: rounding, and items with equal vectors.
TIE: Final = 1e-4


class RecallError(ValueError):
    """Even a search of all lists finds too little of what an exact search finds, or nothing can be found."""


class About(NamedTuple):
    """What an index is, for the manifest; without lists all vectors are compared."""

    vectors: int
    lists: int = 0
    probes: int = 0
    recall: float = 1.0


class Nearest:
    """The indexes of one release: of the items that were counted, and of the groups of cold ones.

    There is none of what the limits ask 0 of.
    """

    def __init__(self, arrays: SamplerArrays, indexes: dict[str, Any], limits: dict[str, int]):
        self._indexes = indexes
        self._most_similar, self._most_cold = limits["similar"], limits["cold"]
        self._rows = np.append(arrays.popularity.order, np.int32(0))  # [-1]: faiss found no more
        self._cold_rows = np.pad(arrays.cold.members, ((0, 1), (0, 0)))  # likewise

    @classmethod
    def build(cls, arrays: SamplerArrays, limits: dict[str, int]) -> tuple["Nearest", dict[str, About]]:
        """Both indexes and what they are, by name. Raises RecallError if one finds too little."""
        items, queries = arrays.retrieval.items, sample_queries(arrays)
        built = {
            name: build_index(name, items[rows], queries, limits[name], limits["scan_up_to"])
            for name, rows in _indexed(arrays, limits).items()
        }
        indexes = {name: index for name, (index, _) in built.items()}
        return cls(arrays, indexes, limits), {name: about for name, (_, about) in built.items()}

    @classmethod
    def load(cls, folder: Path, arrays: SamplerArrays, limits: dict[str, int]) -> "Nearest":
        """What ``save`` left. Raises FileNotFoundError or ValueError naming the file."""
        items = arrays.retrieval.items
        indexes = {
            name: open_index(folder, name, (len(rows), items.shape[1]), limits["scan_up_to"])
            for name, rows in _indexed(arrays, limits).items()
        }
        return cls(arrays, indexes, limits)

    def save(self, folder: Path) -> None:
        """Write ``nearest.<name>.onnx`` or ``nearest.<name>.faiss`` for each index."""
        for name, index in self._indexes.items():
            if isinstance(index, Scan):
                index.save(folder / f"nearest.{name}.onnx")
            else:
                faiss.write_index(index, str(folder / f"nearest.{name}.faiss"))

    def similar(self, vectors: Float) -> Rows:
        """(batch, d) → (batch, n) item rows, in any order; 0 where there are fewer."""
        if not self._most_similar:
            return np.zeros((len(vectors), 0), np.int32)
        _, places = self._indexes["similar"].search(vectors, self._most_similar)
        rows: Rows = self._rows.take(places)
        return rows

    def cold(self, vectors: Float) -> Rows:
        """The members of as many groups as there may be items: basket and excludes may hold the nearest."""
        if not self._most_cold or len(self._cold_rows) == 1:
            return np.zeros((len(vectors), 0), np.int32)
        _, groups = self._indexes["cold"].search(vectors, self._most_cold)
        rows: Rows = self._cold_rows.take(groups, axis=0)
        return rows.reshape(len(vectors), rows.shape[1] * rows.shape[2])


def query_vectors(
    tower: Retrieval, users: Rows, offsets: NDArray[np.int64], baskets: Rows
) -> tuple[Float, Float]:
    """(batch, d) the users' vectors and the baskets', summed over the square root of their size."""
    sums = np.zeros((len(users), tower.basket.shape[1]), np.float32)
    _pool(tower.basket, offsets, baskets, sums)
    return user_vectors(tower.users, users), sums


@numba.njit(cache=True, nogil=True)
def _pool(vectors, offsets, rows, out) -> None:  # type: ignore[no-untyped-def]
    """Add each list's `vectors` (items, d), over the root of its size, to `out` (batch, d), which is zero."""
    for i in range(out.shape[0]):
        size = offsets[i + 1] - offsets[i]
        for row in rows[offsets[i] : offsets[i + 1]]:
            for k in range(out.shape[1]):
                out[i, k] += vectors[row, k]
        for k in range(out.shape[1]):
            out[i, k] /= np.float32(math.sqrt(max(size, 1)))


def sample_queries(arrays: SamplerArrays) -> Float:
    """(at most SAMPLE, d) what shoppers would be compared with: baskets of the histories, every second one
    without its user. A shop without histories is asked about its best sellers, one by one.
    """
    h = arrays.histories
    if len(h.times):
        numbers = _spread(len(h.times))
        users = np.searchsorted(h.user_offsets, numbers, side="right") - 1
        users[1::2] = 0
        parts = [h.items[h.basket_offsets[n] : h.basket_offsets[n + 1]] for n in numbers]
    else:
        order = arrays.popularity.order
        parts = [order[place : place + 1] for place in _spread(len(order))]
        users = np.zeros(len(parts), np.int64)
    offsets = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    baskets = np.concatenate([np.zeros(0, np.int32), *parts])
    user_vectors, basket_vectors = query_vectors(arrays.retrieval, users.astype(np.int32), offsets, baskets)
    return user_vectors + basket_vectors


def build_index(name: str, vectors: Float, queries: Float, most: int, scan_up_to: int) -> tuple[Any, About]:
    """An index over ``vectors`` (n, d), and what it is.

    By one thread: with more, their timing may decide what is near, and with it training and release. So many
    lists are probed as AIM takes. Raises RecallError if all of them find less than RECALL.
    """
    if not np.isfinite(vectors).all():
        raise RecallError(
            f"some vectors of {name} items are not finite; train again with a smaller retrieval.learning_rate"
        )
    n = max(min(most, len(vectors)), 1)
    with _one_thread():
        right = exact_index(vectors).search(queries, n)[0]
        if len(vectors) <= scan_up_to:
            scan = Scan(scan_graph(vectors))
            recall = recall_of(scan.search(queries, n)[1], vectors, queries, right) if len(vectors) else 1.0
            return scan, About(len(vectors), recall=round(recall, 4))
        index = _in_lists(vectors)
        index.nprobe, recall = _fewest_probes(index, vectors, queries, right)
    if not recall >= RECALL:
        raise RecallError(
            f"the index of {name} items finds {recall:.3f} of what an exact search finds; {RECALL} is "
            f"the least. Set sampler.scan_up_to to {len(vectors)} or more, and all are compared"
        )
    return index, About(len(vectors), index.nlist, index.nprobe, round(float(recall), 4))


def exact_index(vectors: Float) -> Any:
    """Every vector is compared."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index


def open_index(folder: Path, name: str, shape: tuple[int, int], scan_up_to: int) -> Any:
    """The index that ``folder`` holds over vectors of ``shape``, which tells its kind."""
    file = folder / f"nearest.{name}.{'onnx' if shape[0] <= scan_up_to else 'faiss'}"
    if not file.exists():
        raise FileNotFoundError(f"{file} is missing; publish the release again")
    index = Scan(file) if file.suffix == ".onnx" else map_index(file)
    found = index.shape if isinstance(index, Scan) else (index.ntotal, index.d)
    if found != shape:
        raise ValueError(
            f"{file} indexes {found[0]} vectors of {found[1]}; the arrays have {shape[0]} of {shape[1]}; "
            "publish the release again"
        )
    return index


def map_index(file: Path) -> Any:
    """The lists stay in the file: processes share its pages.

    IO_FLAG_MMAP would do the same, and start 32 threads for each search to fetch lists ahead.
    """
    return faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC)


def recall_of(found: NDArray[np.int64], vectors: Float, queries: Float, right: Float) -> float:
    """Share of the exact answers' places that ``found`` (batch, n) fills with a vector as near as they hold.

    ``right`` (batch, n) are the exact answers' scores, falling; places of vectors, -1 for none.
    """
    scores = np.einsum("qd,qnd->qn", queries, vectors[found])
    near = (found >= 0) & (scores >= right[:, -1:] - TIE * np.abs(right[:, -1:]))
    return float(near.mean())


def _indexed(arrays: SamplerArrays, limits: dict[str, int]) -> dict[str, Rows]:
    """The item rows whose vectors each index is over, by its name."""
    rows = {"similar": arrays.popularity.order, "cold": arrays.cold.members[:, 0]}
    return {name: of_name for name, of_name in rows.items() if limits[name]}


def _in_lists(vectors: Float) -> Any:
    """An inverted file over the vectors, which lie in the list of the nearest centre by distance.

    By inner product, which it is searched by, long centres would draw most of them to themselves.
    """
    n, d = vectors.shape
    lists = max(round(LISTS * n**0.5), 1)
    sample = _by_length(vectors, lists * POINTS_PER_LIST)
    means = faiss.Kmeans(
        d,
        lists,
        niter=ROUNDS,
        seed=SEED,
        init_method=faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
        max_points_per_centroid=POINTS_PER_LIST,
        min_points_per_centroid=1,
    )
    means.train(sample)
    found: Any = means.centroids
    centres, near = faiss.IndexFlatIP(d), faiss.IndexFlatL2(d)
    centres.add(found)
    near.add(found)
    half = faiss.ScalarQuantizer.QT_fp16  # half of the bytes to read; a quarter, QT_8bit, ends at recall .99
    index = faiss.IndexIVFScalarQuantizer(centres, d, lists, half, faiss.METRIC_INNER_PRODUCT, False)
    index.train(found)
    own = np.ascontiguousarray(near.search(vectors, 1)[1][:, 0])
    places = np.arange(n)
    vectors = np.ascontiguousarray(vectors)
    index.add_core(n, faiss.swig_ptr(vectors), faiss.swig_ptr(places), faiss.swig_ptr(own))
    return index


def _by_length(vectors: Float, most: int) -> Float:
    """At most ``most`` of the vectors, drawn without replacement by LENGTH_POWER."""
    if len(vectors) <= most:
        return np.ascontiguousarray(vectors)
    weight = np.linalg.norm(vectors, axis=1).astype(np.float64) ** LENGTH_POWER + np.finfo(np.float64).tiny
    keys = np.log(np.random.default_rng(SEED).random(len(vectors))) / weight  # the largest are such a sample
    return np.ascontiguousarray(vectors[np.sort(np.argpartition(keys, -most)[-most:])])


def _fewest_probes(index: Any, vectors: Float, queries: Float, right: Float) -> tuple[int, float]:
    """How many lists a query must read for AIM, all if that is too little; and the recall with so many."""

    def recall(probes: int) -> float:
        index.nprobe = probes
        return recall_of(index.search(queries, right.shape[1])[1], vectors, queries, right)

    few, enough = 0, 1
    while (found := recall(enough)) < AIM and enough < index.nlist:
        few, enough = enough, min(2 * enough, index.nlist)
    while enough - few > 1:
        middle = (few + enough) // 2
        here = recall(middle)
        if here >= AIM:
            enough, found = middle, here
        else:
            few = middle
    return enough, found


def _spread(n: int) -> NDArray[np.int64]:
    """At most SAMPLE of the numbers below ``n``, evenly."""
    return np.unique(np.linspace(0, n - 1, min(n, SAMPLE)).astype(np.int64)) if n else np.zeros(0, np.int64)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
