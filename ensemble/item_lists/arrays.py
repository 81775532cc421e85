"""The arrays of a release that lists are made of, mapped from their files: processes share the pages.

``candidate_sampler/arrays.py`` defines them. ``names.words`` may be missing: releases of shops without names
have none.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .ids import Ids

Int = NDArray[np.int32]
Float = NDArray[np.float32]


class Partners(NamedTuple):
    """The items that are often in one basket with an item, strongest first."""

    offsets: NDArray[np.int64]  # (items + 1,)
    items: Int
    cosine: Float
    probability: Float
    weight: Float


class ListArrays(NamedTuple):
    """All arrays of one release."""

    items: Ids
    categories: Ids
    order: Int  # every recommendable item row, best seller first
    sold: Float  # (items,) log share of baskets in the whole period; 0: never
    sold_lately: Float  # (items,) the same over the last 28 days
    category_of: Int  # (items, columns), broad to fine
    members_offsets: NDArray[np.int64]  # (categories + 1,)
    members: Int
    partners: Partners
    vectors: Float  # (items, d) of the retrieval tower
    words: NDArray[np.int64]  # (items, w) hashes of the words of each name, 0 pads; w may be 0


def load_arrays(folder: Path) -> ListArrays:
    """Map the arrays of ``folder``, read-only. Raises FileNotFoundError with the missing file's name."""
    order = _read(folder, "popularity.order")
    sold = _read(folder, "popularity.score")
    partners = Partners(*(_read(folder, f"neighbours.{field}") for field in Partners._fields))
    has_words = (folder / "names.words.npy").exists()
    return ListArrays(
        items=Ids(_read(folder, "item_ids.blob"), _read(folder, "item_ids.offsets")),
        categories=Ids(_read(folder, "category_names.blob"), _read(folder, "category_names.offsets")),
        order=order,
        sold=sold,
        sold_lately=_read(folder, "popularity.recent"),
        category_of=_read(folder, "categories.of_item"),
        members_offsets=_read(folder, "categories.members_offsets"),
        members=_read(folder, "categories.members"),
        partners=partners,
        vectors=_read(folder, "retrieval.items"),
        words=_read(folder, "names.words") if has_words else np.zeros((len(sold), 0), np.int64),
    )


def _read(folder: Path, name: str) -> NDArray[Any]:  # of several types
    path = folder / f"{name}.npy"
    empty = path.stat().st_size <= 128  # numpy cannot map an array without elements
    return np.asarray(np.load(path, mmap_mode=None if empty else "r", allow_pickle=False))
