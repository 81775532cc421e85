"""A grown catalog is the release's own with copies: rows, sales, partners and categories add up."""

import numpy as np
import pytest
import torch

from ensemble.candidate_sampler.query import Query
from export_scripts.scorer.fold import fold
from export_scripts.scorer.ncf import NCF, NCFShape
from loadtests.growth.catalogs import NOISE, Family, add_noise, grow, grow_network
from tests.building.world import arrays_of, proposed, random_shop, sampler_of, tower_of

SHOP = random_shop(np.random.default_rng(3))
ARRAYS = arrays_of(SHOP, min_support=6, retrieval=tower_of(SHOP, np.random.default_rng(4), d=8))
OWN, COUNTABLE = len(ARRAYS.popularity.score), len(ARRAYS.popularity.order)
MANY = 3 * COUNTABLE + 5


def test_a_size_that_the_release_has_is_the_release() -> None:
    same, family = grow(ARRAYS, COUNTABLE, np.random.default_rng(1))
    assert family.first == len(family.source) == OWN
    for group, other in zip(ARRAYS, same, strict=True):
        for one, two in zip(group, other, strict=True):
            np.testing.assert_allclose(two, one, rtol=1e-6)


def test_families_share_their_sales() -> None:
    """Two rounds of copies and five more: the first five have four members, the others three."""
    family = Family.of(ARRAYS, MANY)
    order = np.sort(ARRAYS.popularity.order)
    assert len(family.source) == OWN + 2 * COUNTABLE + 5
    assert family.size[order].tolist() == [4] * 5 + [3] * (COUNTABLE - 5)
    np.testing.assert_allclose(np.bincount(family.source, family.share), 1)
    parts = 1 + 1 / 2 + 1 / 3 + 1 / 4
    assert family.share[order[0]] == pytest.approx(1 / parts)
    assert family.share[OWN + 2 * COUNTABLE] == pytest.approx(1 / 4 / parts)


def test_picked_items_are_of_the_family() -> None:
    """The first member is picked most often, later ones less; an item without copies is always picked."""
    family = Family.of(ARRAYS, MANY)
    cold = np.setdiff1d(np.arange(OWN), ARRAYS.popularity.order)[1]
    items = np.repeat(np.append(np.sort(ARRAYS.popularity.order), cold), 400).astype(np.int32)
    picked = family.pick(items, np.random.default_rng(2))
    np.testing.assert_array_equal(family.source[picked], items)
    assert (picked[items == cold] == cold).all()
    of_first = picked[items == np.sort(ARRAYS.popularity.order)[0]]
    counts = [(of_first == row).sum() for row in np.flatnonzero(family.source == of_first.min())]
    assert len(counts) == 4
    assert counts == sorted(counts, reverse=True)


def test_copies_keep_categories_and_strongest_partners() -> None:
    many, family = grow(ARRAYS, MANY, np.random.default_rng(1))
    for row in range(family.first, len(family.source), 37):
        source = family.source[row]
        np.testing.assert_array_equal(many.categories.of_item[row], ARRAYS.categories.of_item[source])
        of_copy, of_source = (
            slice(*a.neighbours.offsets[r : r + 2]) for a, r in ((many, row), (ARRAYS, source))
        )
        partners, source_partners = many.neighbours.items[of_copy], ARRAYS.neighbours.items[of_source]
        np.testing.assert_array_equal(family.source[partners], source_partners[: len(partners)])
        np.testing.assert_array_equal(
            many.neighbours.cosine[of_copy], ARRAYS.neighbours.cosine[of_source][: len(partners)]
        )


def test_categories_list_all_members_best_seller_first() -> None:
    many, _ = grow(ARRAYS, MANY, np.random.default_rng(1))
    offsets, members = many.categories.members_offsets, many.categories.members
    for category in range(1, len(offsets) - 1):
        listed = members[offsets[category] : offsets[category + 1]]
        assert set(listed) == set(np.flatnonzero((many.categories.of_item == category).any(1)))
        assert (np.diff(many.popularity.score[listed]) <= 0).all()


def test_vectors_of_copies_are_near_their_source() -> None:
    family = Family.of(ARRAYS, 50 * COUNTABLE)
    table = ARRAYS.retrieval.items
    vectors = add_noise(table, family, np.random.default_rng(1))
    np.testing.assert_array_equal(vectors[:OWN], table)
    spread = (vectors - table[family.source])[OWN:].std(0)
    np.testing.assert_allclose(spread, NOISE * table.std(0), rtol=0.05)


def network() -> NCF:
    torch.manual_seed(5)
    model = NCF(NCFShape(n_users=4, n_items=OWN, n_features=3, gmf=4, mlp=8, hidden=(6, 4)))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model.eval()


def test_a_grown_network_scores_own_items_as_before() -> None:
    model, family = network(), Family.of(ARRAYS, MANY)
    grew = grow_network(model, family, np.random.default_rng(1))
    rows = torch.randint(1, OWN, (2, 30), generator=torch.manual_seed(6))
    inputs = (torch.tensor([0, 3]), rows[:, :5], rows, torch.randn(2, 30, 3))
    with torch.no_grad():
        np.testing.assert_array_equal(grew(*inputs), model(*inputs))


def test_a_grown_network_folds_to_tables_of_copies() -> None:
    """Every table has as many rows as the catalog; a copy's rows are its source's plus some noise."""
    family = Family.of(ARRAYS, MANY)
    model = network()
    before, after = fold(model), fold(grow_network(model, family, np.random.default_rng(1)))
    for name in ("basket_gmf", "basket_mlp", "item_gmf", "item_mlp", "item_bias"):
        table, sources = getattr(after, name), getattr(before, name)[family.source]
        assert len(table) == len(family.source)
        np.testing.assert_allclose(table[:OWN], sources[:OWN], atol=1e-5)
        away = np.abs(table - sources)[OWN:].mean() / sources.std()
        assert 0.2 < away < 0.6, name  # of a normal with a deviation of NOISE: .4
    np.testing.assert_array_equal(after.user_mlp, before.user_mlp)
    np.testing.assert_array_equal(after.out, before.out)


def test_a_grown_catalog_is_sampled_and_repeats() -> None:
    """Originals and copies are among the candidates; the same seed gives the same catalog."""
    queries = [Query(user_row=2, basket=[int(row)]) for row in ARRAYS.popularity.order[:5]]
    limits = {"capacity": 200, "similar": 30, "popular": 20, "per_category": 5, "fill": 60}
    many, other = (grow(ARRAYS, MANY, np.random.default_rng(1))[0] for _ in range(2))
    one, two = sampler_of(many, **limits).sample(queries), sampler_of(other, **limits).sample(queries)
    np.testing.assert_array_equal(one.rows, two.rows)
    items = set(proposed(one))
    assert min(items) < OWN <= max(items) < len(many.popularity.score)
    assert len(set(many.item_ids.unpack())) == len(many.popularity.score)
