"""Where an item is lost on its way into an answer: the stages, in the order in which the sampler has them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.batch import Candidates
from ensemble.candidate_sampler.query import Query

if TYPE_CHECKING:  # not of every release's sampler
    from ensemble.candidate_sampler.live.forbidden import Forbidden

Rows = NDArray[np.int32]


class Stage(StrEnum):
    """The stage that an item has reached."""

    UNKNOWN = "unknown"
    IN_BASKET = "in_basket"
    EXCLUDED = "excluded"
    OTHER_CATEGORY = "other_category"
    EXCLUDED_CATEGORY = "excluded_category"
    NOT_LISTED = "not_listed"
    NOT_IN_STOCK = "not_in_stock"
    NOT_PROPOSED = "not_proposed"
    CUT = "cut"
    RANKED = "ranked"


WORDS: Final = {
    Stage.UNKNOWN: "the release does not know it: the id is misspelt, or was not in the receipts",
    Stage.IN_BASKET: "it is in the basket",
    Stage.EXCLUDED: "the question excludes it",
    Stage.OTHER_CATEGORY: "it is in none of the categories asked for",
    Stage.EXCLUDED_CATEGORY: "the question excludes one of its categories",
    Stage.NOT_LISTED: "it is none of the items that the question allows",
    Stage.NOT_IN_STOCK: "it is not available, in this store or in the whole shop",
    Stage.NOT_PROPOSED: "no source proposes it, so it is no candidate",
    Stage.CUT: "cut at place {place} of {of}: the prior prefers the candidates",
    Stage.RANKED: "ranked {place} of {of}",
}


@dataclass(frozen=True)
class Fate:
    """What became of an item."""

    item_id: str
    stage: Stage
    place: int | None = None  # by the prior for a cut item, by the score for a ranked one
    of: int | None = None  # the candidates

    @property
    def sentence(self) -> str:
        """The stage in words."""
        return WORDS[self.stage].format(place=self.place, of=self.of)


def early_fate(
    item_id: str, row: int, query: Query, arrays: SamplerArrays, live: "Forbidden | None" = None
) -> Fate | None:
    """What keeps an item from being proposed at all; None if nothing does. Row 0 is the unknown item.

    ``live`` is what is not available now; None for a release whose sampler knows no stock.
    """
    if not row:
        return Fate(item_id, Stage.UNKNOWN)
    if row in query.basket:
        return Fate(item_id, Stage.IN_BASKET)
    if row in query.exclude:
        return Fate(item_id, Stage.EXCLUDED)
    own = {number for number in arrays.categories.of_item[row].tolist() if number}  # 0 is no category
    if query.wanted and not own & set(query.wanted):
        return Fate(item_id, Stage.OTHER_CATEGORY)
    return _further_fate(item_id, row, own, query) or _stock_fate(item_id, row, query, live)


def _further_fate(item_id: str, row: int, own: set[int], query: Query) -> Fate | None:
    """Queries of older releases lack the fields."""
    if own & set(getattr(query, "unwanted", ())):
        return Fate(item_id, Stage.EXCLUDED_CATEGORY)
    if (only := getattr(query, "only", ())) and row not in only:
        return Fate(item_id, Stage.NOT_LISTED)
    return None


def _stock_fate(item_id: str, row: int, query: Query, live: "Forbidden | None") -> Fate | None:
    return Fate(item_id, Stage.NOT_IN_STOCK) if live and live.is_forbidden(row, query.store) else None


def late_fate(
    item_id: str, row: int, ranked: Sequence[int], proposed: Candidates, arrays: SamplerArrays
) -> Fate:
    """What became of an item that might be proposed.

    ``ranked`` are the rows of the candidates, best first. ``proposed`` is what the sources propose to the one
    query, before the prior chooses.
    """
    if row in ranked:
        return Fate(item_id, Stage.RANKED, ranked.index(row) + 1, len(ranked))
    rows = proposed.rows[0]
    (found,) = np.nonzero(rows == row)
    if not len(found):
        return Fate(item_id, Stage.NOT_PROPOSED)
    prior = proposed.features[0].astype(np.float64) @ arrays.prior.weights
    others = (rows > 0) & ~np.isin(rows, list(ranked))  # candidates are ahead, some whatever their prior
    place = len(ranked) + 1 + int(np.count_nonzero(others & (prior > prior[found[0]])))
    return Fate(item_id, Stage.CUT, place, len(ranked))
