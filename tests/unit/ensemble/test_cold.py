"""Items that hardly sold: grouped by content, proposed by it, kept among candidates, measured apart."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ensemble.candidate_sampler.arrays import Cold, Retrieval, load_arrays, save_arrays
from ensemble.candidate_sampler.query import Query
from ensemble.candidate_sampler.sampler import CandidateSampler
from ensemble.candidate_sampler.sources import CATEGORY, SIMILAR, USUAL
from export_scripts.engines.local import ThisProcess
from export_scripts.quality import losses
from export_scripts.quality.cold import hide_cold, measure_cold_items
from export_scripts.quality.metrics import Placement
from export_scripts.quality.questions import Questions
from export_scripts.quality.rankers import QueryBatch, place_candidates
from export_scripts.scorer.training_set import make_periods
from export_scripts.settings import load_settings
from export_scripts.snapshots import counts
from export_scripts.snapshots.leaks import CHECKS
from export_scripts.snapshots.snapshot import limits, recommendable, with_content
from export_scripts.snapshots.splits import HiddenItems, Split, as_queries
from operations.records.contract import read_contract
from tests.building.world import arrays_of, features_of, proposed, random_shop, sampler_of, shop_of, tower_of

# Items 1, 2 and 3 sell twice; of kind a are 1, 4 and 5, of kind b 2, 6, 7 and 8, of none 3 and 9.
# Once sold: 7 at first, then 8 and 4. Never: 5, 6 and 9.
RECEIPTS = [(1, 0, [1, 2, 7]), (1, 1, [1, 3, 8]), (2, 2, [2, 3, 4])]
SHOP = shop_of(RECEIPTS, items=9, categories={"kind": ["a", "b", "", "a", "a", "b", "b", "b", ""]})
# The basket's item 1 points to kind a, 2 to kind b.
POINTS = np.array([[0, 0], [1, 0], [0, 1], *[[0, 0]] * 7], np.float32)
CONTENT = np.array([[0, 0], [1, 0], [0, 1], [0, 0], [1, 0], [1, 0], *[[0, 1]] * 3, [0, 0]], np.float32)
TOWER = Retrieval(np.zeros((3, 2), np.float32), POINTS, CONTENT)
ARRAYS = arrays_of(SHOP, min_support=2, retrieval=TOWER, prior={"popularity": 1})


def near(query: Query, **settings: int) -> set[int]:
    """The items below the bar that are proposed as similar."""
    sources = proposed(sampler_of(ARRAYS, **({"cold": 2} | settings)).sample([query]))
    return {row for row, bits in sources.items() if bits & SIMILAR and row > 3}


def test_groups_are_of_equal_categories_sold_latest_first() -> None:
    """In kind a item 4 sold and 5 did not; in kind b item 8 sold after 7; items without a kind are in no
    group.
    """
    assert ARRAYS.cold.members.tolist() == [[4, 5, 0], [8, 7, 6]]


def test_only_so_many_of_a_group_are_kept() -> None:
    assert counts.cold(SHOP, 3, 2, ARRAYS.categories.of_item, 1).members.tolist() == [[4], [8]]


def test_only_what_was_sold_before_counts() -> None:
    """Before basket 1 item 7 is the only one of them that sold. Items 1, 2 and 3 were below the bar, too."""
    members = counts.cold(SHOP, 1, 2, ARRAYS.categories.of_item, 5).members
    assert members.tolist() == [[1, 4, 5, 0, 0], [2, 7, 6, 8, 0]]


@pytest.mark.parametrize("categories", [{}, {"kind": [""] * 9}])
def test_without_categories_there_is_nothing_cold(categories: dict[str, list[str]], tmp_path: Path) -> None:
    """Nothing else changes, in memory or from disk."""
    bare = arrays_of(shop_of(RECEIPTS, items=9, categories=categories), min_support=2)
    save_arrays(bare, tmp_path)
    assert bare.cold.members.shape == (0, 3)
    for arrays in (bare, load_arrays(tmp_path)):
        with_it, without = (
            sampler_of(arrays, cold=n, fill=5).sample([Query(user_row=1, basket=[1])]) for n in (9, 0)
        )
        assert proposed(with_it) == proposed(without)


def test_members_of_the_nearest_groups_are_proposed() -> None:
    """An item that never sold is among them, with the features of its content."""
    assert near(Query(basket=[1])) == {4, 5}
    assert near(Query(basket=[2])) == {8, 7}
    assert near(Query(basket=[2]), cold=3) == {8, 7, 6}
    candidates = sampler_of(ARRAYS, cold=2).sample([Query(basket=[1])])
    assert features_of(candidates, 5)["retrieval_basket"] == 1
    assert features_of(candidates, 5)["popularity"] == 0


def test_a_saved_release_proposes_the_same(tmp_path: Path) -> None:
    save_arrays(ARRAYS, tmp_path)
    candidates = sampler_of(load_arrays(tmp_path), cold=2).sample([Query(basket=[1])])
    assert proposed(candidates) == proposed(sampler_of(ARRAYS, cold=2).sample([Query(basket=[1])]))


def test_no_cold_items_are_proposed_with_a_limit_of_0() -> None:
    assert near(Query(basket=[1]), cold=0) == set()


def test_nothing_is_near_a_query_without_user_and_basket() -> None:
    assert near(Query()) == set()


def test_excluded_cold_items_stay_away_and_others_take_their_places() -> None:
    assert near(Query(basket=[1], exclude=[4])) == {5, 8}
    assert near(Query(basket=[1, 5])) == {4, 8}


def test_a_filter_lets_only_cold_items_of_its_category_through() -> None:
    """The filter is kind b, number 2, though the basket points to kind a. A list filled up by hand marks
    them, too.
    """
    assert near(Query(basket=[1], wanted=[2])) == {8, 7}
    assert near(Query(basket=[1], wanted=[1])) == {4, 5}


def test_cold_items_keep_their_places_whatever_the_prior() -> None:
    """The list holds three of them and the best seller of the rest; popularity alone would drop all three."""
    query = Query(basket=[1])
    some, none = (
        proposed(sampler_of(ARRAYS, capacity=4, popular=9, fill=9, cold=n, per_category=9).sample([query]))
        for n in (3, 0)
    )
    assert set(none) >= {2, 3}
    assert set(some) > {4, 5, 8}
    assert set(some) & {2, 3}
    assert len(some) == 4


def test_earlier_purchases_take_no_place_of_cold_items() -> None:
    """Item 8, bought before, competes by the prior, and is proposed as near as well."""
    sources = proposed(sampler_of(ARRAYS, cold=2).sample([Query(user_row=1, basket=[2])]))
    assert sources[8] == USUAL | SIMILAR
    assert sources[7] & SIMILAR


def test_cold_items_do_not_pad_the_places() -> None:
    """With fewer candidates than places the list is what the sources propose, and zeros."""
    candidates = sampler_of(ARRAYS, capacity=9, cold=2).sample([Query(basket=[1])])
    sources = proposed(candidates)
    assert sources.keys() == set(candidates.rows[0].tolist()) - {0}
    assert all(sources.values())
    assert sources[4] == SIMILAR | CATEGORY  # the best seller of kind a beside the basket's


SETTINGS = load_settings(
    overrides={
        "sampler.min_support": 3,
        "sampler.similar": 10,
        "sampler.popular": 10,
        "sampler.per_category": 2,
        "sampler.fill": 20,
        "sampler.cold": 8,
        "evaluate.bootstrap": 10,
    }
)
RANDOM = random_shop(np.random.default_rng(3))
START, END = 150, 250
LATER = arrays_of(
    RANDOM, START, 3, retrieval=tower_of(RANDOM, np.random.default_rng(4)), prior={"popularity": 1}
)
CONTRACT = replace(read_contract(), candidates=60)
KNOWN = recommendable(LATER)


def hidden_items() -> HiddenItems:
    return hide_cold(RANDOM, LATER, START, END, SETTINGS, np.random.default_rng(0))


def sampler() -> CandidateSampler:
    return CandidateSampler(LATER, limits(SETTINGS, CONTRACT))


class InOrder:
    """Ranks candidates in the order in which they come."""

    names = ("in order",)

    def place(self, batch: QueryBatch) -> dict[str, Placement]:
        rows = batch.candidates.rows
        return {"in order": place_candidates(batch, -np.tile(np.arange(rows.shape[1]), (len(rows), 1)))}


def test_items_measured_apart_hardly_sold_and_have_a_category() -> None:
    hidden = hidden_items()
    assert len(hidden) > 20
    assert (counts.support(RANDOM, START)[hidden.items] < 3).all()
    assert with_content(LATER)[hidden.items].all()


def test_every_query_is_counted_once_in_each_split() -> None:
    hidden = hidden_items()
    report = measure_cold_items(RANDOM, hidden, InOrder(), sampler(), START, SETTINGS, ThisProcess())
    rows = sampler().sample(as_queries(RANDOM, hidden)).rows
    hits = (rows == hidden.items[:, None]).any(1)
    assert report["fewer_than"] == 3
    assert report["all"]["n"] == len(hidden)
    assert report["all"]["recall"] == round(float(hits.mean()), 4)
    sold = counts.support(RANDOM, START)[hidden.items] > 0
    assert report["sold"]["recall"] == round(float(hits[sold].mean()), 4)
    assert report["never_sold"]["n"] == (~sold).sum()
    assert report["repeat"]["n"] + report["explore"]["n"] == len(hidden)


def test_without_purchases_of_cold_items_there_is_no_recall() -> None:
    nobody = HiddenItems(np.zeros(0, np.int64), np.zeros(0, np.int32))
    report = measure_cold_items(RANDOM, nobody, InOrder(), sampler(), START, SETTINGS, ThisProcess())
    assert (report["all"]["n"], report["all"]["recall"]) == (0, None)


@pytest.mark.parametrize("n", [15, 40, 60])
def test_recall_counts_the_kept_places(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recall among n candidates is that of a sampler with n places, cold items included."""
    monkeypatch.setattr(losses, "RECALL_AT", (n,))
    hidden = hidden_items()
    questions = Questions(RANDOM, hidden, sampler())
    recall = losses.measure_recall(
        questions, LATER, SETTINGS, CONTRACT, np.zeros(len(hidden), bool), ThisProcess()
    )
    few = CandidateSampler(LATER, limits(SETTINGS, replace(CONTRACT, candidates=n)))
    hits = (few.sample(as_queries(RANDOM, hidden)).rows == hidden.items[:, None]).any(1)
    assert recall["at"][str(n)]["recall"] == round(float(hits.mean()), 4)


def test_training_asks_for_cold_items_and_validation_does_not() -> None:
    splits = make_periods(RANDOM, Split(START, 200, 230, END), LATER, SETTINGS)
    for part in splits.training:
        assert not recommendable(part.arrays)[part.hidden.items].all()
    assert recommendable(splits.validation.arrays)[splits.validation.hidden.items].all()


def test_the_leak_check_covers_cold_items() -> None:
    """The planted leak orders the members by sales after the snapshot."""
    assert CHECKS["cold"](RANDOM, LATER, START, SETTINGS) == ""
    later = counts.cold(RANDOM, END, 3, LATER.categories.of_item, SETTINGS.sampler.cold_per_content)
    assert CHECKS["cold"](RANDOM, LATER._replace(cold=later), START, SETTINGS)
    empty = LATER._replace(cold=Cold(np.zeros((0, 3), np.int32)))
    assert CHECKS["cold"](RANDOM, empty, START, SETTINGS)
