"""Planted leaks are caught, a clean snapshot passes, and a query sees only what lies strictly before it."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.query import Query
from ensemble.candidate_sampler.sources import USUAL
from export_scripts.etl import etl
from export_scripts.quality import baselines
from export_scripts.receipts.shop import Shop, load_shop
from export_scripts.settings import load_settings
from export_scripts.snapshots import counts
from export_scripts.snapshots.leaks import CHECKS, NOT_COUNTED, check_leaks
from export_scripts.snapshots.snapshot import category_pairs
from export_scripts.snapshots.splits import HiddenItems, as_queries
from operations.errors import CestaError
from tests.building.world import DAY, arrays_of, features_of, proposed, random_shop, sampler_of, shop_of

START = 200
SETTINGS = load_settings(overrides={"sampler.min_support": 2, "sampler.shrinkage": 5.0})
SHOP = random_shop(np.random.default_rng(3))


def counted(end: int, shop: Shop = SHOP) -> SamplerArrays:
    return arrays_of(shop, end, min_support=2, shrinkage=5.0)


CLEAN = counted(START)


def plant(group: str, **fields: Any) -> SamplerArrays:
    """The clean arrays with some of a group's arrays replaced."""
    return CLEAN._replace(**{group: getattr(CLEAN, group)._replace(**fields)})


def leak_of(arrays: SamplerArrays, shop: Shop = SHOP, start: int = START) -> str:
    """The detector's sentence; "" if it finds nothing."""
    try:
        check_leaks(shop, arrays, start, SETTINGS)
    except CestaError as error:
        return str(error)
    return ""


def test_a_clean_snapshot_passes() -> None:
    assert leak_of(CLEAN) == ""


def test_pairs_of_large_baskets_are_not_missed() -> None:
    """Neither side counts them: arrays that leave them out pass, and arrays that count them do not."""
    settings = load_settings(overrides={"sampler.min_support": 2, "sampler.largest_basket": 6})
    few = CLEAN._replace(
        neighbours=counts.cooccurrence(SHOP, START, 2, 200, 5.0, largest_basket=6),
        category_pairs=category_pairs(SHOP, START, CLEAN.categories, settings.sampler),
    )
    check_leaks(SHOP, few, START, settings)
    with pytest.raises(CestaError, match="neighbours know"):
        check_leaks(SHOP, CLEAN, START, settings)


def test_the_whole_past_passes() -> None:
    """Nothing comes after the end of the data."""
    assert leak_of(counted(SHOP.n_baskets), start=SHOP.n_baskets) == ""


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("popularity", r"popularity counts \(score\) .* first in basket 20"),
        ("neighbours", r"neighbours know \d+ pairs"),
    ],
)
def test_one_basket_of_the_future_is_caught(group: str, message: str) -> None:
    """It is in the counts of sales only, or of pairs only."""
    assert re.search(message, leak_of(CLEAN._replace(**{group: getattr(counted(START + 1), group)})))


def test_the_error_names_the_basket() -> None:
    """There is no way out to name, because the error is ours."""
    assert re.search(
        r"leak: .* e\.g\. 'i\d{4}', as first in basket 200; .* from number 200 on: this is an error of cesta",
        leak_of(CLEAN._replace(popularity=counted(START + 1).popularity)),
    )


def test_a_pair_counted_once_too_often_is_caught() -> None:
    """Cosine and probability agree with one another and with all sales; only n_ij is one too large."""
    near = CLEAN.neighbours
    later = np.unique(SHOP.items[SHOP.offsets[START] :])
    item = next(i for i in later if near.offsets[i + 1] > near.offsets[i])
    place = near.offsets[item]
    sales = counts.support(SHOP, START)[item]
    n = next(n for n in range(1, 99) if np.isclose(n * n / (n + 5) / sales, near.probability[place]))
    cosine, probability = near.cosine.copy(), near.probability.copy()
    for strength in (cosine, probability):
        strength[place] *= ((n + 1) ** 2 / (n + 6)) / (n**2 / (n + 5))
    sentence = leak_of(plant("neighbours", cosine=cosine, probability=probability))
    assert re.search("know 1 of .* pairs by baskets", sentence)


def test_weights_of_a_later_basket_are_caught() -> None:
    sentence = leak_of(plant("neighbours", weight=CLEAN.neighbours.weight * np.float32(1.01)))
    assert re.search("neighbours weigh by other baskets the partners of", sentence)


def test_the_order_of_a_category_is_caught() -> None:
    whole = counted(SHOP.n_baskets).categories
    assert "categories order best sellers" in leak_of(plant("categories", members=whole.members))


def test_the_order_of_best_sellers_is_caught() -> None:
    assert "popularity orders best sellers" in leak_of(
        plant("popularity", order=CLEAN.popularity.order[::-1])
    )


def test_sales_of_other_days_are_caught() -> None:
    """Only the recent ones are wrong: the last 28 days before another end."""
    assert "counts (recent)" in leak_of(plant("popularity", recent=counted(START + 1).popularity.recent))


def test_a_history_by_the_week_is_caught() -> None:
    """A basket dated to its Monday would be seen by its own query."""
    week = 7 * DAY
    assert "that do not exist, or not at that time" in leak_of(
        plant("histories", times=CLEAN.histories.times // week * week)
    )


def test_a_history_out_of_order_is_caught() -> None:
    times = CLEAN.histories.times.copy()
    first = CLEAN.histories.user_offsets[1]
    times[first : first + 2] = times[first : first + 2][::-1]
    assert "histories are not in the order of time" in leak_of(plant("histories", times=times))


def test_a_basket_told_twice_is_caught() -> None:
    """The second replaces the first: time, items and all."""
    shop = shop_of([(1, 1, [1, 2]), (1, 2, [3, 4])], items=4)
    clean = arrays_of(shop)
    h = clean.histories
    twice = h._replace(times=h.times[[0, 0]], items=h.items[[0, 1, 0, 1]])
    check_leaks(shop, clean._replace(popularity=counts.popularity(shop, 2, 2)), 2, SETTINGS)
    with pytest.raises(CestaError, match=r"histories hold 1 baskets .* of user 'u1' at 86400"):
        check_leaks(
            shop, clean._replace(popularity=counts.popularity(shop, 2, 2), histories=twice), 2, SETTINGS
        )


def test_other_items_of_the_same_sum_are_caught() -> None:
    """Size and sum of the rows are those of the true basket."""
    shop = shop_of([(1, 1, [1, 4]), (1, 2, [2, 3])], items=4)
    clean = arrays_of(shop)
    swapped = clean.histories._replace(items=clean.histories.items[[2, 3, 0, 1]])
    arrays = clean._replace(popularity=counts.popularity(shop, 2, 2))
    check_leaks(shop, arrays, 2, SETTINGS)
    with pytest.raises(CestaError, match=r"histories hold 2 baskets .* of user 'u1' at 86400"):
        check_leaks(shop, arrays._replace(histories=swapped), 2, SETTINGS)


def test_a_user_met_later_is_caught() -> None:
    late = shop_of([(1, 1, [1, 2]), (2, 5, [1, 2])], items=2)
    arrays = arrays_of(late, 1, min_support=2)
    users = arrays.retrieval.users.copy()
    users[2] = 1
    with pytest.raises(CestaError, match=r"retrieval knows 1 users that came later, e\.g\. 'u2'"):
        check_leaks(late, arrays._replace(retrieval=arrays.retrieval._replace(users=users)), 1, SETTINGS)


def test_an_item_learnt_later_is_caught() -> None:
    """Two items of one category sold too little before: their vectors must be equal."""
    rare = counts.support(SHOP, START) < 2
    rare[0] = False
    kind = CLEAN.categories.of_item[:, 0] * 100 + CLEAN.categories.of_item[:, 1]
    item = next(i for i in np.flatnonzero(rare) if (kind[rare] == kind[i]).sum() > 1)
    vectors = CLEAN.retrieval.items.copy()
    vectors[item] = 0.1
    assert "retrieval has separate vectors" in leak_of(plant("retrieval", items=vectors))


def test_every_group_is_checked_or_says_why_not() -> None:
    """New arrays need a check of their own."""
    assert set(SamplerArrays._fields) == set(CHECKS) | NOT_COUNTED
    assert not set(CHECKS) & NOT_COUNTED


def bought(arrays: SamplerArrays, query: Query) -> list[int]:
    """The purchases of the query's user that the untrained rankers see, as items."""
    return baselines.past(arrays, query).items.tolist()


def seen_of(item: int, at: int) -> tuple[float, float]:
    """How often user 1 bought `item` before the second `at`, by the sampler and by the rankers."""
    shop = shop_of([(1, 4, [5]), (1, 10, [1, 2]), (1, 10, [3, 4])], items=5)
    arrays = arrays_of(shop)
    query = Query(user_row=1, now=at)
    candidates = sampler_of(arrays, popular=5, fill=5).sample([query])
    return (
        features_of(candidates, item)["user_count"] if proposed(candidates)[item] & USUAL else 0.0,
        bought(arrays, query).count(item),
    )


@pytest.mark.parametrize(("seconds", "times"), [(-1, 0), (0, 0), (1, 1)])
def test_a_second_decides_what_is_seen(seconds: int, times: int) -> None:
    """Week, day and minute are the same: nothing is rounded."""
    assert seen_of(3, 10 * DAY + seconds) == pytest.approx((np.log1p(times), times))


def test_baskets_of_one_second_do_not_see_one_another() -> None:
    """A basket does not see itself either; both see the earlier ones."""
    shop = shop_of([(1, 4, [5]), (1, 10, [1, 2]), (1, 10, [3, 4])], items=5)
    arrays = arrays_of(shop)
    hidden = HiddenItems(np.array([1, 2]), np.array([1, 3], np.int32))
    for query in as_queries(shop, hidden):
        assert bought(arrays, query) == [5]
        candidates = sampler_of(arrays, popular=5, fill=5).sample([query])
        usual = [row for row, bits in proposed(candidates).items() if bits & USUAL]
        assert usual == [5]


@pytest.mark.parametrize(("seconds", "sold"), [(-1, False), (0, True)])
def test_a_second_decides_what_is_recent(seconds: int, sold: bool) -> None:
    """The period is the last 28 days before the counts end, to the second."""
    shop = shop_of([(0, 12 + seconds / DAY, [1, 2]), (0, 40, [3, 4])], items=4)
    assert (counts.popularity(shop, 2, 1).recent[1] > 0) == sold


def test_a_line_written_twice_counts_once(tmp_path: Path) -> None:
    """This holds for every count from sales to histories: the arrays of both tables agree to the last bit."""
    lines = pd.DataFrame(
        [("u1", "a", "x", 1), ("u1", "a", "y", 1), ("u2", "b", "x", 2), ("u2", "b", "z", 2)],
        columns=["user_id", "basket_id", "item_id", "day"],
    )
    lines["timestamp"] = "2024-01-0" + lines.pop("day").astype(str) + "T10:00:00"
    shops = []
    for name, table in (("once", lines), ("twice", pd.concat([lines, lines.iloc[[0, 0, 3]]]))):
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        settings = load_settings(overrides={"data.transactions": tmp_path / f"{name}.csv"})
        shops.append(load_shop(etl(settings, tmp_path / name)))
    assert counts.support(shops[1], 2).tolist() == [0, 2, 1, 1]
    for once, twice in zip(*(arrays_of(shop) for shop in shops), strict=True):
        for a, b in zip(once, twice, strict=True):
            np.testing.assert_array_equal(a, b)
