"""The candidate sampler: a batch of queries in, (batch, C) candidate rows with their features out."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, chain, groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from .arrays import NO_CATEGORY, NO_ITEM, Histories, SamplerArrays, has_stores, load_arrays, load_limits
from .batch import Candidates, Derived, Further, Limits, Queries, Tables, Touched, new_scratch
from .features import FEATURES
from .ids import Ids, Rows
from .kernels import IN_CATEGORY, POPULARITY, POPULARITY_28, sample_batch
from .live.forbidden import Forbidden
from .nearest import Nearest, query_vectors
from .query import Query, Vocabulary
from .user_vectors import by_bytes

LEAST = 8  # queries that are worth waking another thread for


class CandidateSampler:
    """Samples from one release's arrays. Not thread-safe: the scratch belongs to the call in progress.

    ``capacity`` is C, the number of candidate rows; ``basket_slots`` is L, the padded length of a basket.
    Without ``nearest`` the indexes are built, which takes seconds where they have lists. A large batch is
    shared by ``threads``; each has scratch of its own, 5 bytes an item, and 9 if there are stores.
    """

    def __init__(
        self,
        arrays: SamplerArrays,
        limits: dict[str, int],
        nearest: Nearest | None = None,
        threads: int = 1,
    ):
        self.arrays = _read_only(with_users_by_bytes(arrays))
        self._nearest = nearest or Nearest.build(self.arrays, limits)[0]
        self.capacity = limits["capacity"]
        self.basket_slots = limits["basket_slots"]
        self.now, self._day = int(arrays.clock.now), float(arrays.clock.day)
        self._limits = Limits(**{name: limits[name] for name in Limits._fields})
        self._items, self._users = len(arrays.popularity.score), len(arrays.retrieval.users)
        self._categories = len(arrays.categories.members_offsets) - 1
        self._width = min(self._items, limits["width"])
        self.live = Forbidden(self._items, Rows(self.arrays.item_ids).find_joined)
        self._tables, self._derived = _tables(self.arrays), _derived(self.arrays)
        self._scratch = [self._clean_scratch() for _ in range(threads)]
        self._listed = [self._clean_listed() for _ in range(threads)]
        self._pool = ThreadPoolExecutor(threads - 1) if threads > 1 else None

    @classmethod
    def load(cls, folder: Path, threads: int = 1) -> "CandidateSampler":
        """The sampler of the arrays in ``folder``. Raises FileNotFoundError naming a file that is missing."""
        arrays, limits = load_arrays(folder), load_limits(folder)
        return cls(arrays, limits, Nearest.load(folder, arrays, limits), threads)

    def close(self) -> None:
        """End the other threads; nothing is sampled any more."""
        if self._pool:
            self._pool.shutdown()

    def vocabulary(self) -> Vocabulary:
        """The release's ids."""
        a = self.arrays
        return Vocabulary(Rows(a.item_ids), Rows(a.user_ids), Rows(a.category_names), Rows(a.store_ids))

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
        _check_rows("category", wanted, NO_CATEGORY, self._categories)
        user_vectors, basket_vectors = query_vectors(self.arrays.retrieval, users, basket_offsets, baskets)
        nothing = np.zeros((batch, 0), np.int32)
        asked = Queries(
            user_rows=users,
            now=np.fromiter((self.now if q.now is None else q.now for q in queries), np.int64, batch),
            basket_offsets=basket_offsets,
            baskets=baskets,
            exclude_offsets=exclude_offsets,
            excludes=excludes,
            wanted_offsets=wanted_offsets,
            wanted=wanted,
            similar=nothing,
            cold=nothing,
            user_vectors=user_vectors,
            basket_vectors=basket_vectors,
        )
        with self.live.lock:  # so that a version of the live table counts as a whole
            return self._run(asked, self._further(queries))

    def basket_rows(self, queries: Sequence[Query]) -> NDArray[np.int32]:
        """(batch, L): the baskets' rows, padded with 0."""
        rows = np.zeros((len(queries), self.basket_slots), np.int32)
        for i, query in enumerate(queries):
            rows[i, : len(query.basket)] = query.basket
        return rows

    def rows(self, queries: Sequence[Query], candidates: Candidates) -> NDArray[np.int32]:
        """(batch, 1 + L + 2 C): the user, the basket, the candidates and their sources, side by side."""
        users = np.array([query.user_row for query in queries], np.int32).reshape(-1, 1)
        return np.concatenate([users, self.basket_rows(queries), candidates.rows, candidates.sources], axis=1)

    def _past(self, queries: Sequence[Query]) -> Histories:
        """The histories that queries bring, by their place in the batch."""
        moments = [self.now if q.now is None else q.now for q in queries]
        past = _histories(
            [_receipts(q.history or (), now, self._day) for q, now in zip(queries, moments, strict=True)]
        )
        _check_rows("history item", past.items, 1, self._items)
        return past

    def _further(self, queries: Sequence[Query]) -> Further | None:
        """What the queries ask beyond most, if one does or a live table forbids something."""
        if not self.live.is_used() and not any(q.has_further for q in queries):
            return None
        batch, live_row = len(queries), self.live.store_row
        unwanted_offsets, unwanted = _ragged([q.unwanted for q in queries])
        only_offsets, only = _ragged([q.only for q in queries])
        has_past = np.fromiter((q.history is not None for q in queries), np.bool_, batch)
        stores = np.fromiter((q.store_row for q in queries), np.int32, batch)
        _check_rows("excluded category", unwanted, NO_CATEGORY, self._categories)
        _check_rows("listed item", only, NO_ITEM, self._items)
        _check_rows("store", stores, 0, len(self.arrays.stores.region))
        return Further(
            unwanted_offsets=unwanted_offsets,
            unwanted=unwanted,
            only_offsets=only_offsets,
            only=only,
            has_past=has_past,
            past=self._past(queries),
            live=self.live.bytes_by_item,
            live_rows=np.fromiter((live_row(q.store) if q.is_live else -1 for q in queries), np.int32, batch),
            store_rows=stores,
            stores=self.arrays.stores,
            listed=self._listed[0],
        )

    def _run(self, queries: Queries, further: Further | None) -> Candidates:
        shape = (len(queries.user_rows), self.capacity)
        out = Candidates(
            np.zeros(shape, np.int32),
            np.zeros((*shape, len(FEATURES)), np.float32),
            np.zeros(shape, np.int32),
        )
        parts = _parts(shape[0], len(self._scratch))
        waiting = iter(parts)  # shared: a thread that is done takes the next
        others = [
            self._pool.submit(self._fill, queries, further, out, waiting, thread)
            for thread in range(1, min(len(self._scratch), len(parts)))
            if self._pool
        ]
        try:
            self._fill(queries, further, out, waiting, 0)
        finally:
            for other in others:
                if not other.cancel():  # one that has not begun finds nothing left
                    other.result()
        return out

    def _fill(
        self,
        queries: Queries,
        further: Further | None,
        out: Candidates,
        parts: Iterator[slice],
        thread: int,
    ) -> None:
        for part in parts:
            own = Candidates(out.rows[part], out.features[part], out.sources[part])
            try:
                sample_batch(
                    self._with_nearest(queries, part),
                    self._tables,
                    self._derived,
                    self._limits,
                    self._scratch[thread],
                    own,
                    further and _part_of(further, part, self._listed[thread]),
                )
            except BaseException:
                # What it left must not reach the next query.
                self._scratch[thread], self._listed[thread] = self._clean_scratch(), self._clean_listed()
                raise

    def _with_nearest(self, queries: Queries, part: slice) -> Queries:
        """A part of the batch, with the nearest items of its queries."""
        ends = slice(part.start, part.stop + 1)  # offsets are into the whole batch's lists
        users, baskets = queries.user_vectors[part], queries.basket_vectors[part]
        vectors = users + baskets
        return queries._replace(
            user_rows=queries.user_rows[part],
            now=queries.now[part],
            basket_offsets=queries.basket_offsets[ends],
            exclude_offsets=queries.exclude_offsets[ends],
            wanted_offsets=queries.wanted_offsets[ends],
            similar=self._nearest.similar(vectors),
            cold=self._nearest.cold(vectors),
            user_vectors=users,
            basket_vectors=baskets,
        )

    def _clean_scratch(self) -> Touched:
        return new_scratch(self._items, self._categories, self._width)

    def _clean_listed(self) -> NDArray[np.int32]:
        return np.zeros(self._items if has_stores(self.arrays) else 0, np.int32)


def with_users_by_bytes(arrays: SamplerArrays) -> SamplerArrays:
    """The arrays as a release has them. Training and evaluation sample from the same vectors."""
    return arrays._replace(retrieval=arrays.retrieval._replace(users=by_bytes(arrays.retrieval.users)))


def _tables(arrays: SamplerArrays) -> Tables:
    groups = {name: getattr(arrays, name) for name in Tables._fields if name != "vectors"}
    return Tables(**groups, vectors=arrays.retrieval.items)


def _derived(arrays: SamplerArrays) -> Derived:
    finest, popularity, weights = arrays.categories.finest(), arrays.popularity, arrays.prior.weights
    best_first = np.argsort(-popularity.score[1:], kind="stable") + 1
    sales = np.expm1(popularity.score)
    per_category = np.bincount(finest, sales, len(arrays.categories.members_offsets) - 1)
    in_category = np.sqrt(np.where(finest > 0, sales / np.maximum(per_category[finest], 1e-9), 0))
    score = (
        weights[POPULARITY] * popularity.score
        + weights[POPULARITY_28] * popularity.recent
        + weights[IN_CATEGORY] * in_category
    )
    return Derived(  # copies: never read-only
        best_first.astype(np.int32),
        finest.astype(np.int32),
        in_category.astype(np.float32),
        score.astype(np.float32),
    )


def _part_of(further: Further, part: slice, listed: NDArray[np.int32]) -> Further:
    """A part of the batch, with the scratch ``listed`` of its thread."""
    ends = slice(part.start, part.stop + 1)  # offsets are into the whole batch's lists
    return further._replace(
        unwanted_offsets=further.unwanted_offsets[ends],
        only_offsets=further.only_offsets[ends],
        has_past=further.has_past[part],
        past=further.past._replace(user_offsets=further.past.user_offsets[ends]),
        live_rows=further.live_rows[part],
        store_rows=further.store_rows[part],
        listed=listed,
    )


def _parts(batch: int, threads: int) -> list[slice]:
    """A batch in even parts of at least LEAST queries, two for each thread at most; one for one thread."""
    count = min(2 * threads, max(batch // LEAST, 1)) if threads > 1 else 1
    ends = [batch * i // count for i in range(count + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]


def _check_rows(what: str, rows: NDArray[np.int32], first: int, end: int) -> None:
    if len(rows) and (place := _outside(rows, first, end)) >= 0:
        raise IndexError(f"{what} row {rows[place]} is outside {first} … {end - 1}")


@numba.njit(cache=True, nogil=True)
def _outside(rows, first, end):  # type: ignore[no-untyped-def]
    """Place of the first of `rows` that is not in first … end - 1, or -1."""
    for place in range(rows.shape[0]):
        if rows[place] < first or rows[place] >= end:
            return place
    return -1


def _receipts(history: Sequence[tuple[float, int]], now: int, day: float) -> list[tuple[int, list[int]]]:
    """(age in days, item row) pairs, oldest first → (time, item rows) of each receipt: one for each age.

    The last moment before ``now`` is the latest, because only what lies before it is seen.
    """
    return [
        (min(now - round(age * day), now - 1), [row for _, row in bought])
        for age, bought in groupby(history, itemgetter(0))
    ]


def _histories(receipts: Sequence[list[tuple[int, list[int]]]]) -> Histories:
    """Each one's receipts, oldest first, as a release has them."""
    flat = [*chain.from_iterable(receipts)]
    basket_offsets, items = _ragged([rows for _, rows in flat])
    user_offsets = np.array([0, *accumulate(map(len, receipts))], np.int64)
    times = np.fromiter((time for time, _ in flat), np.int64, len(flat))
    past: Histories = _frozen(Histories(user_offsets, times, basket_offsets, items))
    return past


def _ragged(lists: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Lists of rows → (offsets (batch + 1,), flat rows)."""
    if not any(lists):  # as those of most batches are
        return np.zeros(len(lists) + 1, np.int64), np.zeros(0, np.int32)
    offsets = [0, *accumulate(map(len, lists))]
    return np.array(offsets, np.int64), np.fromiter(chain.from_iterable(lists), np.int32, offsets[-1])


def _read_only(arrays: SamplerArrays) -> SamplerArrays:
    """The same arrays marked read-only: the kernels are compiled once for mapped and unmapped ones alike.

    Ids stay writeable, see ``load_arrays``.
    """

    return SamplerArrays._make(group if isinstance(group, Ids) else _frozen(group) for group in arrays)


def _frozen(group: Any) -> Any:
    """The same named tuple of arrays, marked read-only."""

    def freeze(array: Any) -> NDArray[Any]:
        view = np.asarray(array).view()
        view.flags.writeable = False
        return view

    return type(group)._make(map(freeze, group))
