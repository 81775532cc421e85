"""The candidate sampler: a batch of queries in, (batch, C) candidate rows with their features out."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from .arrays import Ids, SamplerArrays, load_arrays, load_limits
from .batch import Candidates, Derived, Limits, Queries, Touched, new_scratch
from .features import FEATURES
from .kernels import sample_batch
from .query import Query, Vocabulary

# An exact search reads every vector: .055 ms a query at 28,000 items (batches of 64, one thread, d = 64),
# and in proportion above. A graph's cost hardly grows, at the price of a slow build and of misses.
FLAT_INDEX_UP_TO = 100_000

# From so many queries on, an exact search is one matrix product: .067 ms a query in batches of 16 instead of
# .112 one by one. faiss compares queries times dimensions with its threshold, by itself 2,000 queries.
MATRIX_FROM = 5


class CandidateSampler:
    """Samples from one release's arrays. Not thread-safe: the scratch belongs to the call in progress.

    ``capacity`` is C, the number of candidate rows; ``basket_slots`` is L, the padded length of a basket.
    """

    def __init__(self, arrays: SamplerArrays, limits: dict[str, int]):
        self.arrays = _read_only(arrays)
        self.capacity = limits["capacity"]
        self.basket_slots = limits["basket_slots"]
        self.now = int(arrays.clock.now)
        self._similar = limits["similar"]
        self._limits = Limits(**{name: limits[name] for name in Limits._fields})
        self._items, self._users = len(arrays.popularity.score), len(arrays.retrieval.users)
        self._categories = len(arrays.categories.members_offsets) - 1
        self._width = min(self._items, limits["width"])
        self._derived = _derived(self.arrays)
        self._scratch = self._clean_scratch()
        faiss.cvar.distance_compute_blas_threshold = MATRIX_FROM * arrays.retrieval.items.shape[1]
        vectors, order, members = arrays.retrieval.items, arrays.popularity.order, arrays.cold.members
        self._index, self._cold_index = _index(vectors[order]), _index(vectors[members[:, 0]])
        self._index_rows = np.append(order, np.int32(0))  # [-1]: faiss found no more
        self._cold_rows = np.pad(members, ((0, 1), (0, 0)))  # likewise

    @classmethod
    def load(cls, folder: Path) -> "CandidateSampler":
        """The sampler of the arrays in ``folder``. Raises FileNotFoundError naming a file that is missing."""
        return cls(load_arrays(folder), load_limits(folder))

    def vocabulary(self) -> Vocabulary:
        """The release's ids. Built on demand: training never needs them."""
        a = self.arrays
        return Vocabulary(_rows_by_id(a.item_ids), _rows_by_id(a.user_ids), _rows_by_id(a.category_names))

    def sample(self, queries: Sequence[Query]) -> Candidates:
        """(batch,) queries → rows (batch, C) int32, features (batch, C, F) float32, sources (batch, C) int32.

        Raises IndexError, naming the row, for one outside its table: the kernels would read past the end.
        """
        batch = len(queries)
        users = np.fromiter((q.user_row for q in queries), np.int32, batch)
        basket_offsets, baskets = _ragged([q.basket for q in queries])
        exclude_offsets, excludes = _ragged([q.exclude for q in queries])
        wanted_offsets, wanted = _ragged([q.wanted for q in queries])
        _check_rows("user", users, 0, self._users)
        _check_rows("basket item", baskets, 1, self._items)
        _check_rows("excluded item", excludes, 1, self._items)
        _check_rows("category", wanted, 1, self._categories)
        user_vectors, basket_vectors = self._query_vectors(users, basket_offsets, baskets)
        vectors = user_vectors + basket_vectors
        anonymous = (users == 0) & (np.diff(basket_offsets) == 0)  # nothing that an item could be similar to
        return self._run(
            Queries(
                user_rows=users,
                now=np.fromiter((self.now if q.now is None else q.now for q in queries), np.int64, batch),
                basket_offsets=basket_offsets,
                baskets=baskets,
                exclude_offsets=exclude_offsets,
                excludes=excludes,
                wanted_offsets=wanted_offsets,
                wanted=wanted,
                similar=self._nearest(vectors, anonymous),
                cold=self._nearest_cold(vectors, anonymous),
                user_vectors=user_vectors,
                basket_vectors=basket_vectors,
            )
        )

    def basket_rows(self, queries: Sequence[Query]) -> NDArray[np.int32]:
        """(batch, L): the baskets' rows, padded with 0."""
        rows = np.zeros((len(queries), self.basket_slots), np.int32)
        for i, query in enumerate(queries):
            rows[i, : len(query.basket)] = query.basket
        return rows

    def _run(self, queries: Queries) -> Candidates:
        shape = (len(queries.user_rows), self.capacity)
        out = Candidates(
            np.zeros(shape, np.int32),
            np.zeros((*shape, len(FEATURES)), np.float32),
            np.zeros(shape, np.int32),
        )
        try:
            sample_batch(queries, self.arrays, self._derived, self._limits, self._scratch, out)
        except BaseException:
            self._scratch = self._clean_scratch()  # what the failed query left must not reach the next one
            raise
        return out

    def _clean_scratch(self) -> Touched:
        return new_scratch(self._items, self._categories, self._width)

    def _query_vectors(
        self, users: NDArray[np.int32], offsets: NDArray[np.int64], baskets: NDArray[np.int32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(batch, d) the users' vectors and the baskets', summed over the square root of their size."""
        tower = self.arrays.retrieval
        sums = np.zeros((len(users), tower.users.shape[1]), np.float32)
        np.add.at(sums, np.repeat(np.arange(len(users)), np.diff(offsets)), tower.basket[baskets])
        sums /= np.sqrt(np.maximum(np.diff(offsets), 1))[:, None]
        return tower.users[users], sums.astype(np.float32, copy=False)

    def _nearest(self, vectors: NDArray[np.float32], skip: NDArray[np.bool_]) -> NDArray[np.int32]:
        _, places = self._index.search(vectors, self._similar)
        rows = self._index_rows[places]
        rows[skip] = 0
        return np.ascontiguousarray(rows, dtype=np.int32)

    def _nearest_cold(self, vectors: NDArray[np.float32], skip: NDArray[np.bool_]) -> NDArray[np.int32]:
        """The members of as many groups as there may be items: basket and excludes may hold the nearest."""
        if not self._limits.cold or len(self._cold_rows) == 1:
            return np.zeros((len(vectors), 0), np.int32)
        _, groups = self._cold_index.search(vectors, self._limits.cold)
        rows: NDArray[np.int32] = self._cold_rows[groups]
        rows[skip] = 0
        return rows.reshape(len(vectors), -1)


def _index(vectors: NDArray[np.float32]) -> Any:
    """A faiss index over ``vectors`` (n, d), exact while they are few.

    Built by one thread: with more, their timing decides the edges of the graph, and with them candidates,
    training and release.
    """
    if len(vectors) <= FLAT_INDEX_UP_TO:
        index: Any = faiss.IndexFlatIP(vectors.shape[1])
    else:
        index = faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        index.add(vectors)
    finally:
        faiss.omp_set_num_threads(threads)
    return index


def _derived(arrays: SamplerArrays) -> Derived:
    finest = arrays.categories.finest()
    best_first = np.argsort(-arrays.popularity.score[1:], kind="stable") + 1
    sales = np.expm1(arrays.popularity.score)
    per_category = np.bincount(finest, sales, len(arrays.categories.members_offsets) - 1)
    in_category = sales / np.maximum(per_category[finest], 1e-9)
    # Copies: never read-only.
    return Derived(best_first.astype(np.int32), finest.astype(np.int32), in_category.astype(np.float32))


def _check_rows(what: str, rows: NDArray[np.int32], first: int, end: int) -> None:
    outside = (rows < first) | (rows >= end)
    if outside.any():
        raise IndexError(f"{what} row {rows[outside][0]} is outside {first} … {end - 1}")


def _rows_by_id(ids: Ids) -> dict[bytes, int]:
    return {i: row for row, i in enumerate(ids.unpack()) if i}


def _ragged(lists: list[list[int]]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Lists of rows → (offsets (batch + 1,), flat rows)."""
    offsets = np.zeros(len(lists) + 1, np.int64)
    np.cumsum([len(rows) for rows in lists], out=offsets[1:])
    return offsets, np.fromiter(chain.from_iterable(lists), np.int32, int(offsets[-1]))


def _read_only(arrays: SamplerArrays) -> SamplerArrays:
    """The same arrays marked read-only: the kernels are compiled once for mapped and unmapped ones alike."""

    def freeze(array: Any) -> NDArray[Any]:
        view = np.asarray(array).view()
        view.flags.writeable = False
        return view

    return SamplerArrays._make(type(group)._make(map(freeze, group)) for group in arrays)
