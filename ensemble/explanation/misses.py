"""How far each source was from proposing an item that none of them proposes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.nearest import query_vectors
from ensemble.candidate_sampler.query import Query


@dataclass(frozen=True)
class Miss:
    """Why a source does not propose an item, with its place in the source's list if it has one."""

    sentence: str
    place: int | None = None
    proposed: int | None = None  # as many of the list are proposed


def misses(arrays: SamplerArrays, limits: Mapping[str, int], query: Query, row: int) -> dict[str, Miss]:
    """The miss of each source by its name, for an item that a question leaves open.

    ``limits`` are the sampler's; ``popular`` is how many best sellers were proposed.
    """
    found = {"usual": _usual(query), "together": _together(query)}
    place = _place(arrays.popularity.order, row)
    if place is None:
        rare = Miss("it sold too rarely to be counted, and its categories are not near enough")
        found |= {"similar": rare, "popular": Miss("it sold too rarely to be counted")}
    else:
        found["similar"] = _similar(arrays, limits, query, row)
        found["popular"] = _of_list("of the best sellers", place, limits["popular"])
    found["category"] = _category(arrays, limits, query, row)
    return found


def _usual(query: Query) -> Miss:
    return Miss("the customer never bought it" if query.user_row else "the customer is not known")


def _together(query: Query) -> Miss:
    if not query.basket:
        return Miss("the release knows no item of the basket, or it is empty")
    return Miss("no item of the basket has it among its strongest partners")


def _category(arrays: SamplerArrays, limits: Mapping[str, int], query: Query, row: int) -> Miss:
    finest = arrays.categories.finest()
    asked = set(query.wanted) & set(arrays.categories.of_item[row].tolist())
    category = min(asked, default=int(finest[row]))
    if not category:
        return Miss("it has no category")
    in_basket = list(dict.fromkeys(finest[query.basket].tolist()))
    if not asked and category not in in_basket:
        return Miss("no item of the basket is in its category")
    used = [number for number in in_basket if number][: limits["basket_categories"]]
    if not asked and category not in used:
        return Miss(f"categories of the basket that are used: {len(used)}; its own comes later")
    part = slice(*arrays.categories.members_offsets[category : category + 2].tolist())
    place = _place(arrays.categories.members[part], row)
    most = limits["fill"] if asked else limits["per_category"]
    return _of_list("of the best sellers of its category", place or 0, most)


def _similar(arrays: SamplerArrays, limits: Mapping[str, int], query: Query, row: int) -> Miss:
    """The item's place among the counted items by inner product with the question."""
    if not limits["similar"]:
        return Miss("only items that hardly sold are looked for near the question (sampler.similar is 0)")
    if not query.user_row and not query.basket:
        return Miss("neither the customer nor an item of the basket is known, so nothing is near")
    basket = np.array(query.basket, np.int32)
    user, offsets = np.array([query.user_row], np.int32), np.array([0, len(basket)], np.int64)
    users, baskets = query_vectors(arrays.retrieval, user, offsets, basket)
    products = arrays.retrieval.items[arrays.popularity.order] @ (users + baskets)[0]
    place = 1 + int(np.count_nonzero(products > arrays.retrieval.items[row] @ (users + baskets)[0]))
    return _of_list("of the nearest items", place, limits["similar"])


def _of_list(what: str, place: int, most: int) -> Miss:
    return Miss(f"it is number {place:,} {what}; the first {most:,} are proposed", place, most)


def _place(rows: NDArray[np.int32], row: int) -> int | None:
    """From 1; None for a row that is not there."""
    (found,) = np.nonzero(rows == row)
    return int(found[0]) + 1 if len(found) else None
