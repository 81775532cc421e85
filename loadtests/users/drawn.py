"""Writes a run of any size from drawn tables: no receipts, no training. Equal sizes give equal files.

Large arrays are drawn in chunks, straight into their files. Users and items have ids of ten digits, in no
order; a question may name any of them (``draw_questions``).
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import (
    Categories,
    Clock,
    Cold,
    Histories,
    Neighbours,
    Partners,
    Popularity,
    Prior,
    Retrieval,
    SamplerArrays,
)
from ensemble.candidate_sampler.ids import Ids
from ensemble.candidate_sampler.user_vectors import STEP_BYTES
from ensemble.reference import Reference
from export_scripts.export import answers, write_parts
from export_scripts.scorer.graph import FoldedNCF, Table, write_graph
from export_scripts.settings import Settings
from export_scripts.snapshots.snapshot import untrained_prior
from loadtests.questions import Question
from operations.records import manifest
from operations.records.atomic import staged_folder
from operations.records.contract import read_contract
from operations.records.golden_answers import Request
from operations.records.manifest import ContractRecord, RunManifest

SEED: Final = 7
CHUNK: Final = 1_000_000  # rows that are drawn at a time
DIGITS: Final = 10
STRIDE: Final = 7_919_000_003  # prime, so that multiples below 10 ** DIGITS are distinct
PARTNERS: Final = 10
KINDS: Final = 1_000  # categories
CLUSTERS: Final = 500  # of item vectors; trained ones have clusters, too
NOISE: Final = 0.3  # of a vector in its cluster
STEP: Final = 0.005  # of users' vectors by bytes
ITEMS_A_BASKET: Final = 3
DAY_S: Final = 86_400
GOLDEN: Final = 8


class Sizes(NamedTuple):
    """How large a drawn run is. Row 0 of users and items comes on top."""

    users: int
    items: int
    baskets: int  # of each user
    dimensions: int  # of the retrieval tower's vectors
    hidden: int  # width of the scorer's first layer


def write_drawn_run(sizes: Sizes, settings: Settings, run: Path) -> None:
    """Write a run that can be published, with golden answers of its own."""
    contract, rng = read_contract(), np.random.default_rng(SEED)
    with staged_folder(run, marker=manifest.NAME) as folder:
        write_graph(_draw_scorer(sizes, contract.features, rng), _texts(sizes.items), contract, folder)
        with tempfile.TemporaryDirectory(prefix="drawn-", dir=run.parent) as drawn:
            parts = write_parts(_draw_arrays(sizes, Path(drawn), rng), settings, contract, folder)
        requests = [Request(basket=q.basket, user_id=q.user_id) for q in draw_questions(sizes, GOLDEN, SEED)]
        golden = answers(Reference.load(folder), requests)
        described = {"contract": ContractRecord.of(contract), "golden": golden} | parts.record
        manifest.write(RunManifest.model_validate(described), folder)


def draw_questions(sizes: Sizes, n: int, seed: int) -> list[Question]:
    """Questions of known users with one to eight items each, popular ones more often."""
    rng = np.random.default_rng(seed)
    users = rng.integers(1, sizes.users + 1, n)
    baskets = [_popular(rng, sizes.items, size) for size in rng.integers(1, 9, n)]
    return [
        Question(tuple(sorted({_text(row) for row in basket.tolist()})), _text(user))
        for user, basket in zip(users.tolist(), baskets, strict=True)
    ]


def _draw_arrays(sizes: Sizes, folder: Path, rng: np.random.Generator) -> SamplerArrays:
    """The sampler's arrays; those with a row per user are mapped from files in ``folder``."""
    users, items = sizes.users + 1, sizes.items + 1
    now, baskets = DAY_S * 1_000, sizes.users * sizes.baskets

    def user_vectors(_: int, n: int) -> NDArray[np.int8]:
        rows = rng.integers(-127, 128, (n, sizes.dimensions + STEP_BYTES), np.int8)
        rows[:, sizes.dimensions :] = np.full(1, STEP, np.float32).view(np.int8)
        return rows

    def times(start: int, n: int) -> NDArray[np.int64]:
        return now - DAY_S * (sizes.baskets - (start + np.arange(n)) % sizes.baskets)

    drawn = {
        "users": _fill(folder / "users.npy", (users, sizes.dimensions + STEP_BYTES), np.int8, user_vectors),
        "times": _fill(folder / "times.npy", (baskets,), np.int64, times),
        "bought": _fill(
            folder / "bought.npy",
            (baskets * ITEMS_A_BASKET,),
            np.int32,
            lambda _, n: _popular(rng, sizes.items, n),
        ),
    }
    kinds = np.arange(items, dtype=np.int32) % KINDS + 1
    kinds[0] = 0
    vectors = _clustered(items, sizes.dimensions, rng)
    user_offsets = np.maximum(np.arange(-1, users, dtype=np.int64), 0) * sizes.baskets
    return SamplerArrays(
        item_ids=_ids(items),
        user_ids=_ids(users),
        category_names=Ids.pack([b"", *(b"kind %d" % kind for kind in range(1, KINDS + 1))]),
        histories=Histories(
            user_offsets,
            drawn["times"],
            np.arange(baskets + 1, dtype=np.int64) * ITEMS_A_BASKET,
            drawn["bought"],
        ),
        neighbours=_neighbours(items, rng),
        popularity=_popularity(items),
        categories=_categories(kinds),
        category_pairs=_pairs(rng),
        retrieval=Retrieval(drawn["users"], vectors, vectors),
        cold=Cold(np.zeros((0, 3), np.int32)),
        clock=Clock(np.array(now), np.array(DAY_S, np.float32)),
        prior=Prior(untrained_prior()),
    )


def _draw_scorer(sizes: Sizes, features: int, rng: np.random.Generator) -> FoldedNCF:
    """A scorer with one hidden layer and random weights."""
    users, items, h = sizes.users + 1, sizes.items + 1, sizes.hidden

    def table(rows: int, columns: int = h) -> Table:
        return np.resize(rng.standard_normal((min(rows, CHUNK), columns), np.float32), (rows, columns))

    def basket(columns: int) -> Table:
        rows = table(items, columns)
        rows[0] = 0
        return rows

    return FoldedNCF(
        user_gmf=table(users, 0),
        user_mlp=table(users),
        basket_gmf=basket(0),
        basket_mlp=basket(h),
        item_gmf=table(items, 0),
        item_mlp=table(items),
        item_bias=table(items, 1),
        features=table(features),
        wide=table(features, 1),
        hidden=[],
        out=table(h, 1),
    )


def _fill(
    file: Path,
    shape: tuple[int, ...],
    dtype: type[np.generic],
    draw: Callable[[int, int], NDArray[Any]],
) -> NDArray[Any]:
    """An array that is mapped from ``file``; ``draw`` gets a first row and a number of rows."""
    array = np.lib.format.open_memmap(file, "w+", dtype, shape)
    for start in range(0, shape[0], CHUNK):
        n = min(CHUNK, shape[0] - start)
        array[start : start + n] = draw(start, n)
    array.flush()
    del array
    return np.load(file, mmap_mode="r")  # type: ignore[no-any-return]


def _popular(rng: np.random.Generator, items: int, n: int) -> NDArray[np.int32]:
    """Item rows; row 1 sells best."""
    return (items * rng.random(n, np.float32) ** 3).astype(np.int32).clip(0, items - 1) + 1


def _text(row: int) -> str:
    return f"{row * STRIDE % 10**DIGITS:0{DIGITS}d}" if row else ""


def _texts(rows: int) -> list[str]:
    return [_text(row) for row in range(rows + 1)]


def _ids(rows: int) -> Ids:
    """The ids of ``rows`` rows; row 0 has none."""
    offsets = np.maximum(np.arange(-1, rows, dtype=np.int64), 0) * DIGITS
    numbers = np.arange(1, rows) * STRIDE % 10**DIGITS
    blob = np.empty((rows - 1, DIGITS), np.uint8)
    for place in range(DIGITS - 1, -1, -1):
        numbers, blob[:, place] = numbers // 10, numbers % 10 + ord("0")
    return Ids.over(blob.reshape(-1), offsets)


def _clustered(items: int, dimensions: int, rng: np.random.Generator) -> NDArray[np.float32]:
    centres = rng.standard_normal((CLUSTERS, dimensions), np.float32) / np.float32(dimensions**0.5)
    vectors = rng.standard_normal((items, dimensions), np.float32) * np.float32(NOISE / dimensions**0.5)
    vectors += centres[np.arange(items) % CLUSTERS]
    vectors[0] = 0
    return vectors


def _popularity(items: int) -> Popularity:
    score = np.zeros(items, np.float32)
    score[1:] = np.log1p(10_000 / np.arange(1, items))
    return Popularity(np.arange(1, items, dtype=np.int32), score, score)


def _categories(kinds: NDArray[np.int32]) -> Categories:
    """One column. Rows are in the order of sales, so the members of a category are, too."""
    order = np.argsort(kinds, kind="stable")[1:]  # without the unknown item
    offsets = np.concatenate([[0, 0], np.cumsum(np.bincount(kinds, minlength=KINDS + 1)[1:])])
    return Categories(kinds[:, None], offsets, order.astype(np.int32))


def _neighbours(items: int, rng: np.random.Generator) -> Partners:
    offsets = np.maximum(np.arange(-1, items, dtype=np.int64), 0) * PARTNERS
    partners = _popular(rng, items - 1, int(offsets[-1]))
    falling = np.linspace(0.5, 0.1, PARTNERS, dtype=np.float32)
    cosine = np.tile(falling, items - 1)
    return Partners(offsets, partners, cosine, cosine / np.float32(2), cosine / np.float32(5))


def _pairs(rng: np.random.Generator) -> Neighbours:
    offsets = np.maximum(np.arange(-1, KINDS + 1, dtype=np.int64), 0) * PARTNERS
    n = int(offsets[-1])
    values = rng.random(n, np.float32) / np.float32(2)
    return Neighbours(offsets, rng.integers(1, KINDS + 1, n).astype(np.int32), values, values)
