"""The report about both ways of asking, on a shop whose candidates and scores are worked out by hand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from export_scripts.scoring.catalog import CatalogRanker, Ranked
from export_scripts.scoring.comparison import (
    COLD,
    CUT,
    NOT_PROPOSED,
    TIED,
    UNEXPLAINED,
    Compared,
    Difference,
    compare_partition,
    explain,
    sampled,
    summarise,
)
from export_scripts.scoring.partition import Facts, Shared
from export_scripts.scoring.questions import Asked
from export_scripts.scoring.release import open_release
from tests.building.scored import publish_release, scorer_of_items
from tests.building.world import arrays_of, shop_of

# Item 1 sold four times, 2 three times, 3 twice, 4 once; 5 and 6 never. User 1 bought 1, 2, 3 and 4.
RECEIPTS = [(1, 1, [1, 2, 3, 4]), (2, 2, [1, 2, 3]), (2, 3, [1, 2]), (2, 4, [1])]
# The sources propose the user's purchases and one best seller, so nobody proposes 5 and 6. Of the four
# proposals the prior, which is popularity, keeps 1, 2 and 3.
ITEMS = 6
LIMITS = {"capacity": 3, "popular": 1, "fill": 1, "similar": 1}


def differences(
    folder: Path, user: str, scores: Sequence[float], categories: Sequence[str] = (), **limits: int
) -> list[Difference]:
    """What the report says about the best three items of a user. Items have the same score for everybody."""
    shop = shop_of(RECEIPTS, ITEMS, {"kind": categories} if categories else None)
    arrays = arrays_of(shop, min_support=2 if categories else 1, prior={"popularity": 1.0})
    scorer = scorer_of_items(shop.n_users, np.array([0, *scores], np.float32))
    repository = publish_release(folder, shop, arrays, scorer, answers_per_list=3, **LIMITS | limits)
    with open_release(repository, None) as files:
        facts = Facts(release=1, digest="", k=3, kind="users", questions="", partition_size=1)
        (found,) = compare_partition(Shared(files, facts), Asked(0, [user], [user], [[]]))
    return found.differences


def test_lost_items_were_not_proposed_or_cut(tmp_path: Path) -> None:
    """The whole catalog has 6, 5 and 4 first. The served list is 3, 2, 1."""
    assert differences(tmp_path, "u1", [1, 2, 3, 4, 5, 6]) == [
        (1, "i0006", NOT_PROPOSED),
        (2, "i0005", NOT_PROPOSED),
        (3, "i0004", CUT),
    ]


def test_equal_lists_have_no_differences(tmp_path: Path) -> None:
    assert differences(tmp_path, "u1", [6, 5, 4, 3, 2, 1]) == []


def test_a_place_kept_for_a_cold_item_is_named(tmp_path: Path) -> None:
    """User 2 bought 1, 2 and 3, which the prior would keep. One of 4, 5 and 6, which hardly sold, is near."""
    kinds = ["a", "a", "a", "b", "c", "c"]
    assert differences(tmp_path, "u2", [2, 3, 9, 0.1, 0.2, 0.3], kinds, cold=1) == [(1, "i0003", COLD)]


@pytest.fixture(scope="module")
def ranker(tmp_path_factory: pytest.TempPathFactory) -> CatalogRanker:
    """All six items are candidates of user 1."""
    shop = shop_of(RECEIPTS, ITEMS)
    scorer = scorer_of_items(shop.n_users, np.zeros(ITEMS + 1, np.float32))
    folder = tmp_path_factory.mktemp("release")
    limits = LIMITS | {"capacity": 6, "fill": 6}
    repository = publish_release(folder, shop, arrays_of(shop), scorer, answers_per_list=3, **limits)
    with open_release(repository, None) as files:
        return CatalogRanker(files)


def ranked(scores: dict[int, float], reasons: int = 1) -> Ranked:
    rows = np.array(list(scores), np.int32)
    return Ranked(rows, np.array(list(scores.values()), np.float32), np.full(len(rows), reasons, np.int32))


@pytest.mark.parametrize(
    ("whole", "served", "found"),
    [
        ({1: 3.0, 2: 2.0}, {1: 3.0, 2: 2.0}, []),
        ({1: 2.0, 2: 2.0, 3: 1.0}, {2: 2.0, 1: 2.0, 3: 1.0}, [(1, 1, TIED), (2, 2, TIED)]),
        ({1: 3.0, 2: 2.0}, {1: 3.0, 3: 2.0}, [(2, 2, TIED)]),
        ({1: 3.0, 2: 2.0}, {1: 3.0, 3: 1.0}, [(2, 2, UNEXPLAINED)]),
        ({1: 3.0, 2: 2.0}, {2: 3.0, 1: 2.0}, [(1, 1, UNEXPLAINED), (2, 2, UNEXPLAINED)]),
        ({1: 3.0, 2: 2.0}, {3: 9.0, 1: 3.0}, [(2, 2, UNEXPLAINED), (0, 3, UNEXPLAINED)]),
    ],
)
def test_ties_are_told_from_what_nothing_explains(
    ranker: CatalogRanker,
    whole: dict[int, float],
    served: dict[int, float],
    found: list[tuple[int, int, str]],
) -> None:
    query = ranker.vocabulary.query(user_id=b"u1")
    assert explain(ranker, query, ranked(whole), ranked(served)) == found


def test_other_reasons_are_a_defect(ranker: CatalogRanker) -> None:
    query = ranker.vocabulary.query(user_id=b"u1")
    assert explain(ranker, query, ranked({1: 3.0}), ranked({1: 3.0}, reasons=2)) == [(1, 1, UNEXPLAINED)]


def test_the_report_counts_items_and_lists() -> None:
    one = Compared("u1", [Difference(1, "a", CUT), Difference(2, "b", CUT), Difference(3, "c", TIED)], 1e-6)
    counts = summarise([one, Compared("u2", [], 2e-6), Compared("u3", [Difference(1, "a", CUT)], 0.0)])
    assert (counts["questions"], counts["identical"], counts["score_error"]) == (3, 1, 2e-6)
    assert counts["items"] == {NOT_PROPOSED: 0, CUT: 3, COLD: 0, TIED: 1, UNEXPLAINED: 0}
    assert counts["lists"] == {NOT_PROPOSED: 0, CUT: 2, COLD: 0, TIED: 1, UNEXPLAINED: 0}


def test_a_sample_is_spread_over_all_partitions() -> None:
    """Eleven questions in partitions of four: the places 0, 5 and 10."""
    keys = [f"u{n}" for n in range(11)]
    parts = [Asked(n, own, own, [[]] * len(own)) for n, own in enumerate([keys[:4], keys[4:8], keys[8:]])]
    assert [part.keys for part in sampled(parts, 11, 3)] == [["u0"], ["u5"], ["u10"]]
    assert [part.keys for part in sampled(parts, 11, 50)] == [part.keys for part in parts]
