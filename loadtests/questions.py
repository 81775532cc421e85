"""Turns the test month's real baskets into visits of shoppers, in time order.

A receipt does not tell in which order a basket was filled, nor whether the customer logged in. Both are drawn
with a fixed seed, so every run and every server gets the same questions.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.query import MAX_BASKET
from export_scripts.receipts.shop import load_shop
from export_scripts.settings import SplitSettings, load_settings
from export_scripts.snapshots.splits import split_by_time
from operations.records import manifest
from operations.records.manifest import RunManifest
from operations.settings import merged

SEED: Final = 7
KINDS: Final = {"returning": 0.5, "anonymous": 0.3, "filling": 0.2}  # shares of the visits
STEPS: Final = 12  # questions for a basket that is filled item by item, at most
STEP_S: Final = 20.0  # between two items of a basket
PLACEHOLDER: Final = "newbasket"  # an item that the generators replace by as many random digits


class Question(NamedTuple):
    """One request. The basket or the user id is not empty."""

    basket: tuple[str, ...]  # distinct, sorted: equal baskets share one entry of Triton's cache
    user_id: str = ""

    @property
    def json(self) -> dict[str, list[str] | str]:
        """The request as plain JSON, with both fields: Triton batches only requests with equal inputs."""
        return {"basket": list(self.basket), "user_id": self.user_id}


@dataclass(frozen=True)
class Visit:
    """A shopper's questions: the first `at_s` after the start of the month, the others every `STEP_S`."""

    kind: str
    at_s: float
    questions: tuple[Question, ...]


def visits_of_test_month(data: Path, run: Path) -> list[Visit]:
    """The visits in time order, from etl's tables and the run's own split."""
    shop = load_shop(data)
    settings = RunManifest.read(run / manifest.NAME).settings or {}
    defaults = {"splits": load_settings().splits.model_dump()}  # an older run lacks newer keys
    splits = merged(defaults, settings)["splits"]
    test = split_by_time(shop, SplitSettings.model_validate(splits)).test
    rng = np.random.default_rng(SEED)
    kinds = rng.choice(list(KINDS), shop.n_baskets - test, p=list(KINDS.values()))
    start, second = int(shop.times[test]), shop.day / 86_400
    ids = shop.catalog["item_id"].tolist()
    return [
        Visit(
            kind,
            (int(shop.times[number]) - start) / second,
            _questions(
                [ids[row] for row in shop.basket(number)], shop.user_ids[shop.users[number]], kind, rng
            ),
        )
        for number, kind in enumerate(kinds.tolist(), test)
    ]


def stream(visits: list[Visit]) -> list[Question]:
    """All questions of all visits in time order."""
    timed = [
        (visit.at_s + step * STEP_S, question)
        for visit in visits
        for step, question in enumerate(visit.questions)
    ]
    return [question for _, question in sorted(timed, key=lambda pair: pair[0])]


def with_placeholder(question: Question) -> Question:
    """The question with the placeholder in its basket. The generators make every copy of it a new one."""
    return question._replace(basket=_basket([*question.basket[: MAX_BASKET - 1], PLACEHOLDER]))


def gaps_between(visits: list[Visit], mean_gap_s: float) -> NDArray[np.float64]:
    """(visits - 1,) the month's gaps between visits, rush hours included, scaled to this mean."""
    gaps: NDArray[np.float64] = np.diff([visit.at_s for visit in visits])
    mean_s: float = max(gaps.mean(), 1e-9)
    return gaps * (mean_gap_s / mean_s)


def _questions(ids: list[str], user: str, kind: str, rng: np.random.Generator) -> tuple[Question, ...]:
    items = [ids[i] for i in rng.permutation(len(ids))][:MAX_BASKET]
    if kind == "anonymous":
        return tuple(Question(_basket(items[:n])) for n in sorted({1, len(items)}))
    if kind == "filling":
        return tuple(Question(_basket(items[:n]), user) for n in range(1, min(len(items), STEPS) + 1))
    start = () if not user else (Question((), user),)  # the front page, with an empty basket
    return (*start, Question(_basket(items), user))


def _basket(items: list[str]) -> tuple[str, ...]:
    return tuple(sorted(items))
