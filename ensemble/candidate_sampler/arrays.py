"""The sampler's arrays: typed groups of numpy arrays, and the folder of .npy files they are kept in.

One file per array (``histories.times.npy``), so that Triton's processes map them into memory rather than
copy them, and so that two releases with an equal array could share its pages.
"""

import json
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .ids import Ids

Int = NDArray[np.int32]
Float = NDArray[np.float32]


class Histories(NamedTuple):
    """Past baskets per user, oldest first."""

    user_offsets: NDArray[np.int64]  # (users + 1,) into times
    times: NDArray[np.int64]  # (baskets,) in the unit of Clock
    basket_offsets: NDArray[np.int64]  # (baskets + 1,) into items
    items: Int  # item rows


class Neighbours(NamedTuple):
    """Co-occurrence: per category its strongest partners, strongest first."""

    offsets: NDArray[np.int64]  # (items + 1,)
    items: Int
    cosine: Float  # n_ij / sqrt(n_i n_j), shrunk by n_ij / (n_ij + shrinkage)
    probability: Float  # P(partner | item) = n_ij / n_i, shrunk alike


class Partners(NamedTuple):
    """The same per item, with a second value for each pair."""

    offsets: NDArray[np.int64]  # (items + 1,)
    items: Int
    cosine: Float
    probability: Float
    weight: Float  # what the item adds to the chance of the partner, given the item's other partners


class Popularity(NamedTuple):
    """How often items sell."""

    order: Int  # every recommendable item row, best seller first
    score: Float  # (items,) log share of baskets, shifted so that 0 is "never sold"
    recent: Float  # (items,) the same over the last 28 days


NO_CATEGORY: Final = 0  # it has no members: who asks for it alone gets nothing
NO_ITEM: Final = 0  # likewise: the unknown item is never recommended


class Categories(NamedTuple):
    """Categories of every column in one numbering; a name in two columns is one category. 0 is none."""

    of_item: Int  # (items, columns), broad to fine
    members_offsets: NDArray[np.int64]  # (categories + 1,)
    members: Int  # item rows, best seller first, those without sales last

    def finest(self) -> Int:
        """(items,) number of every item's finest category."""
        return self.of_item[:, -1] if self.of_item.shape[1] else np.zeros(len(self.of_item), np.int32)


class Retrieval(NamedTuple):
    """The retrieval tower: query (user + sum of basket / sqrt(size)) times item is how well the item fits."""

    users: NDArray[
        Any
    ]  # (users, d) float32, or by bytes: see user_vectors.py; row 0 the trained unknown user
    basket: Float  # (items, d); what an item adds to a query
    items: Float  # (items, d); what a query is compared with


class Cold(NamedTuple):
    """Items with too few sales to be counted, by content: those of equal categories share one vector."""

    members: Int  # (groups, most) item rows of equal categories, sold latest first, 0 pads


class Clock(NamedTuple):
    """Times are integers, ``day`` of them a day: 86,400 s, or without time stamps a share of the baskets."""

    now: NDArray[np.int64]  # () moment of a query that names none: just after the last receipt
    day: Float  # ()


class Prior(NamedTuple):
    """A linear score that decides which candidates stay when the sources propose more than C."""

    weights: Float  # (features,)


class Stores(NamedTuple):
    """What sells in each store. Row 0 is the unknown store, which has nothing of its own.

    The share of a store's baskets in the last 28 days is backed off to that of its region, and this to the
    whole shop's: ``export_scripts/snapshots/stores.py`` has the formula.
    """

    offsets: NDArray[np.int64]  # (stores + 1,) into items
    items: Int  # the rows of what was sold in the store lately, best seller first
    recent: Float  # as Popularity.recent, of the store
    region: Int  # (stores,) number of the region; 0 is the whole shop
    left: Float  # (stores,) share of the region's share that an item not in the store's list has here
    closed: NDArray[np.bool_]  # (stores,) items that are not in its list are no candidates
    shares: Float  # (regions, items) per 10,000 baskets of the last 28 days


NO_STORE_IDS: Final = Ids(
    np.zeros(0, np.uint8), np.zeros(2, np.int64), np.zeros(2, np.int64), np.full(2, 2, np.int32)
)


def _zeros(shape: tuple[int, ...], kind: type[np.generic]) -> NDArray[Any]:
    array = np.zeros(shape, kind)
    array.flags.writeable = False  # as loaded arrays are
    return array


NO_STORES: Final = Stores(
    offsets=_zeros((2,), np.int64),
    items=_zeros((0,), np.int32),
    recent=_zeros((0,), np.float32),
    region=_zeros((1,), np.int32),
    left=_zeros((1,), np.float32),
    closed=_zeros((1,), np.bool_),
    shares=_zeros((0, 0), np.float32),
)


class SamplerArrays(NamedTuple):
    """All groups; a shop whose receipts name no stores has the last two empty, and no files of them."""

    item_ids: Ids
    user_ids: Ids
    category_names: Ids
    histories: Histories
    neighbours: Partners
    popularity: Popularity
    categories: Categories
    category_pairs: Neighbours  # co-occurrence of the finest categories, by number
    retrieval: Retrieval
    cold: Cold
    clock: Clock
    prior: Prior
    store_ids: Ids = NO_STORE_IDS
    stores: Stores = NO_STORES


GROUPS: dict[str, type] = SamplerArrays.__annotations__
OF_STORES: Final = ("store_ids", "stores")


def save_arrays(arrays: SamplerArrays, folder: Path) -> None:
    """Write every array as ``<group>.<field>.npy`` into ``folder``, which must exist."""
    for group, fields in arrays._asdict().items():
        if group in OF_STORES and not has_stores(arrays):
            continue
        for field, array in fields._asdict().items():
            np.save(folder / f"{group}.{field}.npy", np.ascontiguousarray(array).reshape(np.shape(array)))


def load_arrays(folder: Path) -> SamplerArrays:
    """Map the arrays of ``folder`` into memory, read-only; ids copy on write, because numba takes writeable
    arrays faster, and they are looked up one request at a time.

    Raises FileNotFoundError with the missing file's name.
    """

    def load(name: str, mode: Literal["r", "c"]) -> NDArray[np.generic]:
        path = folder / f"{name}.npy"
        empty = path.stat().st_size <= 128  # numpy cannot map an array without elements
        return np.asarray(np.load(path, mmap_mode=None if empty else mode, allow_pickle=False))

    with_stores = (folder / "stores.offsets.npy").exists()
    return SamplerArrays(
        **{
            group: kind(
                **{field: load(f"{group}.{field}", "c" if kind is Ids else "r") for field in kind._fields}  # type: ignore[attr-defined]
            )
            for group, kind in GROUPS.items()
            if with_stores or group not in OF_STORES
        }
    )


def has_stores(arrays: SamplerArrays) -> bool:
    """Tell whether the receipts named stores."""
    return len(arrays.stores.region) > 1


def load_limits(folder: Path) -> dict[str, int]:
    """``limits.json``: how many candidates each source may propose, and the contract's sizes."""
    limits: dict[str, int] = json.loads((folder / "limits.json").read_text())
    return limits
