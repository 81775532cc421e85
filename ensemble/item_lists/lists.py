"""Makes the lists of one release, each in one pass over mapped arrays."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from .arrays import Float, Int, ListArrays, load_arrays
from .question import Question

# The bits of ``reasons``, as candidate_sampler/sources.py numbers them.
TOGETHER: Final = 2
SIMILAR: Final = 4
POPULAR: Final = 8
CATEGORY: Final = 16

FORBIDDEN: Final = np.uint8(1)  # the bit of a live table

# What a substitute gains by a name with the same words, and loses by being in the same baskets. Chosen by eye
# and by the table of docs/quality.md.
NAME_SHARE: Final = 0.5
TOGETHER_SHARE: Final = 1.0

Allowed = Callable[[bytes], NDArray[np.bool_] | None]  # store → (items,) what may be listed; None: everything


class Listed(NamedTuple):
    """A list, best first."""

    rows: Int
    scores: Float
    reasons: int  # alike for all


class ItemLists:
    """The lists of one release. ``allowed`` tells what stock and rules leave; by default it is everything."""

    def __init__(self, arrays: ListArrays, allowed: Allowed = lambda store: None):
        self.arrays, self._allowed = arrays, allowed
        self._recommendable = np.zeros(len(arrays.sold), bool)
        self._recommendable[arrays.order] = True
        lengths = np.sqrt(np.einsum("nd,nd->n", arrays.vectors, arrays.vectors))
        self._inverse_lengths: Float = (1 / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)

    @classmethod
    def load(cls, folder: Path, allowed: Allowed = lambda store: None) -> Self:
        """The lists of the arrays in ``folder``. Raises FileNotFoundError naming a file that is missing."""
        return cls(load_arrays(folder), allowed)

    def list(self, question: Question) -> Listed:
        """The list that a question wants. That of an unknown item, or of unknown categories, is empty."""
        if question.kind == "popular":
            return self._popular(question)
        if not question.item:
            return _nothing()
        makers = {"similar": self._similar, "together": self._together, "substitutes": self._substitutes}
        return makers[question.kind](question)

    def _popular(self, question: Question) -> Listed:
        sold = self.arrays.sold_lately if question.days else self.arrays.sold
        rows = self.arrays.order if question.categories is None else self._members(question.categories)
        scores = sold[rows]
        reasons = POPULAR if question.categories is None else POPULAR | CATEGORY
        return self._best(question, rows[scores > 0], scores[scores > 0], reasons)

    def _similar(self, question: Question) -> Listed:
        rows = self._recommended(question)
        return self._best(question, rows, self._nearness(question.item, rows), SIMILAR)

    def _together(self, question: Question) -> Listed:
        partners = self.arrays.partners
        part = slice(*partners.offsets[question.item : question.item + 2])
        return self._best(question, partners.items[part], partners.cosine[part], TOGETHER)

    def _substitutes(self, question: Question) -> Listed:
        """Items of the same finest category, by nearness, less what is in the same baskets."""
        a, item = self.arrays, question.item
        category = int(a.category_of[item, -1]) if a.category_of.shape[1] else 0
        if not category:
            return _nothing()
        members = self._members((category,))
        rows = members[self._recommendable[members]]
        scores = self._nearness(item, rows) + np.float32(NAME_SHARE) * self._same_words(item, rows)
        part = slice(*a.partners.offsets[item : item + 2])
        together = np.zeros(len(a.sold), np.float32)
        together[a.partners.items[part]] = a.partners.cosine[part]
        scores -= np.float32(TOGETHER_SHARE) * together[rows]
        return self._best(question, rows, scores, SIMILAR | CATEGORY)

    def _nearness(self, item: int, rows: Int) -> Float:
        """(n,) cosines of the item's vector with those of ``rows``."""
        vectors, inverse = self.arrays.vectors, self._inverse_lengths
        everything = len(rows) * 4 > len(vectors)  # copying rows costs more than multiplying all
        products = (vectors @ vectors[item])[rows] if everything else vectors[rows] @ vectors[item]
        nearness: Float = products * inverse[rows] * inverse[item]
        return nearness

    def _same_words(self, item: int, rows: Int) -> Float:
        """(n,) the share of words that the names of the item and of ``rows`` have in common (Jaccard)."""
        words = self.arrays.words
        own, others = words[item][words[item] != 0], words[rows]
        if not len(own):
            return np.zeros(len(rows), np.float32)
        common = np.isin(others, own).sum(1)
        union = (others != 0).sum(1) + len(own) - common
        share: Float = (common / np.maximum(union, 1)).astype(np.float32)
        return share

    def _members(self, categories: tuple[int, ...]) -> Int:
        """The items of some categories, once each."""
        starts, ends = self.arrays.members_offsets[:-1], self.arrays.members_offsets[1:]
        parts = [self.arrays.members[starts[number] : ends[number]] for number in categories]
        rows: Int = np.unique(np.concatenate([np.zeros(0, np.int32), *parts]))
        return rows

    def _recommended(self, question: Question) -> Int:
        if question.categories is None:
            return self.arrays.order
        members = self._members(question.categories)
        return members[self._recommendable[members]]

    def _best(self, question: Question, rows: Int, scores: Float, reasons: int) -> Listed:
        """The best of ``rows`` that the question and the shop allow; of equal ones the lower row."""
        kept = np.ones(len(self.arrays.sold), bool)
        kept[[0, question.item, *question.exclude]] = False
        if (allowed := self._allowed(question.store_id)) is not None:
            kept &= allowed
        if question.categories is not None:
            of_these = np.zeros(len(kept), bool)
            of_these[self._members(question.categories)] = True
            kept &= of_these
        rows, scores = rows[kept[rows]], scores[kept[rows]]
        if len(rows) > question.limit:
            least = np.partition(scores, -question.limit)[-question.limit]
            rows, scores = rows[scores >= least], scores[scores >= least]
        best = np.lexsort((rows, -scores))[: question.limit]
        return Listed(rows[best], scores[best].astype(np.float32), reasons)


def allowed_by(table: Any, store: bytes) -> NDArray[np.bool_] | None:
    """What a live table (``candidate_sampler/live/forbidden.py``) leaves to a store; None: everything."""
    with table.lock:
        by_item = table.bytes_by_item
        if by_item.shape[1] == 1:  # nobody told anything yet
            return None
        left: NDArray[np.bool_] = by_item[table.store_row(store)] & FORBIDDEN == 0
        return left


def _nothing() -> Listed:
    return Listed(np.zeros(0, np.int32), np.zeros(0, np.float32), 0)
