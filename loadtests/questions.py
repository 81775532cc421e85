"""What is asked: the test month's real baskets as visits of shoppers, in the order in which they came.

A receipt tells neither in which order a basket was filled nor which visitors logged in; both are drawn with a
fixed seed, so that every run and every server gets the same questions.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.query import MAX_BASKET
from export_scripts.receipts.shop import load_shop
from export_scripts.settings import SplitSettings
from export_scripts.snapshots.splits import split_by_time
from operations.records import manifest
from operations.records.manifest import RunManifest

SEED: Final = 7
KINDS: Final = {"returning": 0.5, "anonymous": 0.3, "filling": 0.2}  # shares of the visits
STEPS: Final = 12  # of a basket that is filled item by item, the first so many are asked about
STEP_S: Final = 20.0  # between two items put into a basket


class Question(NamedTuple):
    """One request; at least one of both is not empty."""

    basket: tuple[str, ...]  # distinct, sorted: equal baskets share one entry of Triton's cache
    user_id: str = ""

    @property
    def json(self) -> dict[str, list[str] | str]:
        """The request's plain JSON, both fields always: Triton batches only requests with the same."""
        return {"basket": list(self.basket), "user_id": self.user_id}


@dataclass(frozen=True)
class Visit:
    """A shopper's questions, the first asked `at_s` after the month began, each next one `STEP_S` later."""

    kind: str
    at_s: float
    questions: tuple[Question, ...]


def visits_of_test_month(data: Path, run: Path) -> list[Visit]:
    """The visits in time order, from etl's tables and the splits that the run was trained with."""
    shop = load_shop(data)
    settings = RunManifest.read(run / manifest.NAME).settings or {}
    test = split_by_time(shop, SplitSettings.model_validate(settings["splits"])).test
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
    """All questions in the order in which they are asked."""
    timed = [(visit.at_s + i * STEP_S, q) for visit in visits for i, q in enumerate(visit.questions)]
    return [question for _, question in sorted(timed, key=lambda pair: pair[0])]


def arrivals(visits: list[Visit], mean_gap_s: float) -> NDArray[np.float64]:
    """(visits - 1,) gaps between visits, the month's own with its rush hours, squeezed to this mean."""
    gaps = np.diff([visit.at_s for visit in visits])
    return gaps * (mean_gap_s / max(gaps.mean(), 1e-9))


def _questions(ids: list[str], user: str, kind: str, rng: np.random.Generator) -> tuple[Question, ...]:
    items = [ids[i] for i in rng.permutation(len(ids))][:MAX_BASKET]
    if kind == "anonymous":
        return tuple(Question(_basket(items[:n])) for n in sorted({1, len(items)}))
    if kind == "filling":
        return tuple(Question(_basket(items[:n]), user) for n in range(1, min(len(items), STEPS) + 1))
    start = () if not user else (Question((), user),)  # the front page, before anything is in the basket
    return (*start, Question(_basket(items), user))


def _basket(items: list[str]) -> tuple[str, ...]:
    return tuple(sorted(items))
