"""Scores and their parts, and the stage at which each item is lost, on invented shops."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import onnx
import pytest

from ensemble.candidate_sampler.features import FEATURES
from ensemble.candidate_sampler.query import BadRequest
from ensemble.explanation.evidence import Contributor
from ensemble.explanation.explainer import Explainer
from ensemble.explanation.fates import Stage
from ensemble.explanation.groups import GROUPS, VECTORS
from ensemble.reference import Reference
from export_scripts.scorer.graph import FoldedNCF, Table, build_graph
from export_scripts.scoring.release import open_release
from operations.errors import CestaError
from operations.explaining.cut_graph import scored_graph
from operations.records.contract import Contract
from tests.building.sampled_shops import RANDOM, RANDOM_ARRAYS, random_queries
from tests.building.scored import explainer_of_files, publish_release, random_scorer, scorer_of_items
from tests.building.world import arrays_of, shop_of

LIMITS = {"capacity": 40, "similar": 20, "popular": 15, "per_category": 5, "fill": 60, "cold": 4}


@pytest.fixture(scope="module")
def opened() -> Iterator[ExitStack]:
    """Closes what the tests open."""
    with ExitStack() as stack:
        yield stack


def explainer_of(folder: Path, scorer: FoldedNCF, opened: ExitStack) -> Explainer:
    """Explains the random shop, with this scorer."""
    repository = publish_release(folder, RANDOM, RANDOM_ARRAYS, scorer, answers_per_list=10, **LIMITS)
    return explainer_of_files(opened.enter_context(open_release(repository, None)))


def small_scorer(**changes: np.ndarray) -> FoldedNCF:
    """Random tables, with the scores of a trained scorer: between -10 and 10."""
    scorer = random_scorer(RANDOM.n_users, RANDOM.n_items)
    return replace(scorer, features=scorer.features / 4, wide=scorer.wide / 4, **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the release of the next fixture was made."""
    return tmp_path_factory.mktemp("random")


@pytest.fixture(scope="module")
def explainer(folder: Path, opened: ExitStack) -> Explainer:
    """Explains the random shop, with random tables: each group has its part in the scores."""
    return explainer_of(folder, small_scorer(), opened)


def test_answers_are_those_of_the_chain_and_their_parts_add_up(explainer: Explainer, folder: Path) -> None:
    """Fifteen random questions: with and without users, baskets, excluded items and categories."""
    reference = Reference.load(folder / "run")
    explained = 0
    for query in random_queries(np.random.default_rng(9), 15):
        expected = reference.recommend([query])
        found = explainer.ask(query).explain_first(4)
        assert [one.item_id for one in found] == [i for i in expected.item_ids[0, :4].tolist() if i]
        for one, score in zip(found, expected.scores[0].tolist(), strict=False):
            assert one.score == pytest.approx(score, abs=1e-5)
            assert one.baseline + sum(part.total for part in one.groups) == pytest.approx(score, abs=1e-5)
            assert [part.group for part in one.groups] == list(GROUPS)
        explained += len(found)
    assert explained > 40


def test_the_parts_of_each_group_cancel_out_over_all_candidates(explainer: Explainer) -> None:
    """The baseline is their mean, so what one candidate has above it, others have below it."""
    asked = explainer.ask(explainer.vocabulary.query([b"i0005", b"i0009"], b"u3"))
    every = asked.explain_first(asked.size)
    assert np.mean([one.score for one in every]) == pytest.approx(every[0].baseline, abs=1e-5)
    for place, name in enumerate(GROUPS):
        parts = [one.groups[place] for one in every]
        assert max(abs(part.total) for part in parts) > 0, name
        assert sum(part.wide for part in parts) == pytest.approx(0, abs=1e-4), name
        assert sum(part.network for part in parts) == pytest.approx(0, abs=1e-4), name


def test_the_wide_part_is_the_weight_times_the_distance_from_the_average(
    tmp_path: Path, opened: ExitStack
) -> None:
    """Without a network there is no other part. The bias belongs to the item's vectors."""
    no_network = {"out": np.zeros((4, 1), np.float32), "item_gmf": np.zeros((RANDOM.n_items, 2), np.float32)}
    scorer = small_scorer(**no_network)
    explainer = explainer_of(tmp_path, scorer, opened)
    query = explainer.vocabulary.query([b"i0005"], b"u3")
    found = explainer.sampler.sample([query])
    asked = explainer.ask(query)
    (one,) = asked.explain_first(1)
    place, n = found.rows[0].tolist().index(explainer.row(one.item_id)), asked.size
    for part in one.groups:
        assert part.network == pytest.approx(0, abs=1e-5)
        for of in part.features:
            k = FEATURES.index(of.feature)
            column = found.features[0, :n, k].astype(float)
            assert of.value == column[place]
            assert of.average == pytest.approx(column.mean())
            assert of.wide == pytest.approx(scorer.wide[k, 0] * (column[place] - column.mean()))
    biases = scorer.item_bias[found.rows[0, :n], 0]
    assert dict(zip(GROUPS, one.groups, strict=True))[VECTORS].wide == pytest.approx(
        float(biases[place] - biases.mean()), abs=1e-5
    )


def test_the_networks_part_is_the_mean_over_all_orders_of_the_groups(explainer: Explainer) -> None:
    """The network alone, in numpy, for all 40,320 orders in which the groups take the item's values."""
    query, scorer, names = explainer.vocabulary.query([b"i0005", b"i0009"], b"u3"), small_scorer(), [*GROUPS]
    asked = explainer.ask(query)
    (one,) = asked.explain_first(1)
    found = explainer.sampler.sample([query])
    rows, own = found.rows[0, : asked.size], found.features[0, : asked.size].astype(float)
    place = rows.tolist().index(explainer.row(one.item_id))

    def queried(users: Table, items: Table) -> np.ndarray:
        return users[query.user_row] + items[query.basket].sum(0) / np.sqrt(len(query.basket))

    def network(rows: np.ndarray, features: np.ndarray) -> float:
        first = (
            features @ scorer.features + scorer.item_mlp[rows] + queried(scorer.user_mlp, scorer.basket_mlp)
        )
        mlp = np.maximum(first, 0) @ scorer.out
        return float((mlp[:, 0] + scorer.item_gmf[rows] @ queried(scorer.user_gmf, scorer.basket_gmf)).mean())

    worth = []
    for coalition in range(2 ** len(names)):
        members = [name for player, name in enumerate(names) if coalition >> player & 1]
        mixed, columns = own.copy(), [FEATURES.index(of) for name in members for of in GROUPS[name]]
        mixed[:, columns] = own[place, columns]
        worth.append(network(np.full_like(rows, rows[place]) if VECTORS in members else rows, mixed))
    added, orders = np.zeros(len(names)), list(permutations(range(len(names))))
    for order in orders:
        coalition = 0
        for player in order:
            added[player] += worth[coalition | 1 << player] - worth[coalition]
            coalition |= 1 << player
    assert [part.network for part in one.groups] == pytest.approx(added / len(orders), abs=2e-5)


def test_a_network_that_reads_one_group_gives_nothing_to_others(tmp_path: Path, opened: ExitStack) -> None:
    features = np.zeros((len(FEATURES), 4), np.float32)
    features[FEATURES.index("popularity")] = 1
    nothing = {
        name: np.zeros_like(getattr(small_scorer(), name))
        for name in ("item_gmf", "item_mlp", "item_bias", "wide")
    }
    scorer = replace(small_scorer(**{"item_gmf": nothing["item_gmf"]}), features=features, **nothing)
    explainer = explainer_of(tmp_path, replace(scorer, out=np.ones((4, 1), np.float32)), opened)
    asked = explainer.ask(explainer.vocabulary.query([b"i0005"], b"u3"))
    for one in asked.explain_first(3):
        for part in one.groups:
            if part.group == "popularity":
                assert part.network == pytest.approx(one.score - one.baseline, abs=1e-5)
            else:
                assert part.network == pytest.approx(0, abs=1e-5)


def test_a_graph_that_scales_the_wide_term_is_refused(tmp_path: Path) -> None:
    """The weights would be no part of the score."""
    contract = Contract(200, 40, len(FEATURES), 10)
    ids = ["", *(f"i{row}" for row in range(1, RANDOM.n_items))]
    graph = build_graph(small_scorer(), ids, contract)
    (place,) = (i for i, node in enumerate(graph.graph.node) if "wide_weights" in node.input)
    weighted = graph.graph.node[place].output[0]
    graph.graph.node[place].output[0] = "before"
    scale = onnx.helper.make_node("Mul", ["before", "float32_1"], [weighted])
    graph.graph.node.insert(place + 1, scale)
    file = tmp_path / "model.onnx"
    file.write_bytes(graph.SerializeToString())
    with pytest.raises(CestaError, match="changes the wide term by Mul after the sum"):
        scored_graph(file, contract)


# Item 1 sold four times, 2 three times, 3 twice, 4 once; 5 and 6 never. User 1 bought 1, 2, 3 and 4. The
# prior, which is popularity, keeps 1, 2 and 3 of these four; the scorer prefers 3 to 2 to 1.
RECEIPTS = [(1, 1, [1, 2, 3, 4]), (2, 2, [1, 2, 3]), (2, 3, [1, 2]), (2, 4, [1])]
KINDS = ["a", "a", "a", "b", "c", "c"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, opened: ExitStack) -> Explainer:
    shop = shop_of(RECEIPTS, 6, {"kind": KINDS})
    arrays = arrays_of(shop, prior={"popularity": 1.0})
    scorer = scorer_of_items(shop.n_users, np.array([0, 1, 2, 3, 4, 5, 6], np.float32))
    limits = {"capacity": 3, "popular": 1, "fill": 1, "similar": 1}
    folder = tmp_path_factory.mktemp("small")
    repository = publish_release(folder, shop, arrays, scorer, answers_per_list=3, **limits)
    return explainer_of_files(opened.enter_context(open_release(repository, None)))


@pytest.mark.parametrize(
    ("item_id", "stage", "place", "of"),
    [
        ("nothing", Stage.UNKNOWN, None, None),
        ("", Stage.UNKNOWN, None, None),
        ("i0001", Stage.RANKED, 3, 3),
        ("i0003", Stage.RANKED, 1, 3),
        ("i0004", Stage.CUT, 4, 3),
        ("i0005", Stage.NOT_PROPOSED, None, None),
    ],
)
def test_the_stage_at_which_an_item_is_lost(
    small: Explainer, item_id: str, stage: Stage, place: int | None, of: int | None
) -> None:
    loss = small.ask(small.vocabulary.query(user_id=b"u1")).explain_loss(item_id)
    assert (loss.fate.stage, loss.fate.place, loss.fate.of) == (stage, place, of)
    assert (loss.explanation is not None) == (stage is Stage.RANKED)
    assert ("usual" in loss.sources) == (stage in (Stage.RANKED, Stage.CUT))
    assert bool(loss.misses) == (stage is Stage.NOT_PROPOSED)


def test_the_prior_of_a_cut_item_is_shared_out_exactly(small: Explainer) -> None:
    """It is the popularity alone: that of item 4 beside the average of 1, 2 and 3."""
    loss = small.ask(small.vocabulary.query(user_id=b"u1")).explain_loss("i0004")
    score = small.sampler.arrays.popularity.score
    parts = dict.fromkeys(set(GROUPS) - {VECTORS}, 0.0) | {"popularity": float(score[4] - score[1:4].mean())}
    assert loss.prior == pytest.approx(parts, abs=1e-6)


def test_the_basket_comes_before_what_is_excluded(small: Explainer) -> None:
    query = small.vocabulary.query([b"i0002"], b"u1", [b"i0002", b"i0003"])
    asked = small.ask(query)
    assert asked.explain_loss("i0002").fate.sentence == "it is in the basket"
    assert asked.explain_loss("i0003").fate.sentence == "the question excludes it"


def test_an_item_of_another_category_is_filtered(small: Explainer) -> None:
    asked = small.ask(small.vocabulary.query(user_id=b"u1", categories=[b"b"]))
    assert asked.explain_loss("i0001").fate.stage is Stage.OTHER_CATEGORY
    assert asked.explain_loss(" i0004 ").fate.sentence == "ranked 1 of 1"  # blanks, as in a question
    assert [one.item_id for one in asked.explain_first(3)] == ["i0004"]


def test_the_places_of_what_is_cut_follow_the_candidates(explainer: Explainer) -> None:
    """All proposals have a place: the candidates by their scores, then the others by the prior."""
    asked = explainer.ask(explainer.vocabulary.query([b"i0005", b"i0009"], b"u3"))
    rows = asked.proposed.rows[0]
    fates = [asked.explain_loss(explainer.item_id(row)).fate for row in rows[rows > 0].tolist()]
    places = sorted(fate.place or 0 for fate in fates)
    assert len(places) > LIMITS["capacity"]
    assert places[: LIMITS["capacity"]] == [*range(1, LIMITS["capacity"] + 1)]
    assert sum(fate.stage is Stage.RANKED for fate in fates) == asked.size == LIMITS["capacity"]
    assert places[LIMITS["capacity"]] == LIMITS["capacity"] + 1
    assert places[-1] <= len(places)


def test_best_sellers_that_fill_a_short_list_are_counted_as_proposed(explainer: Explainer) -> None:
    """15 are proposed in any case, and 60 if nothing else is."""
    asked = explainer.ask(explainer.vocabulary.query())
    order = explainer.sampler.arrays.popularity.order.tolist()
    last, next_one = (asked.explain_loss(explainer.item_id(row)) for row in order[59:61])
    assert last.fate.stage in (Stage.CUT, Stage.RANKED)
    assert last.sources == {"popular": Contributor("best_seller", "60")}
    assert next_one.misses["popular"].place == 61
    assert next_one.misses["popular"].proposed == 60


def test_what_is_no_id_is_refused(small: Explainer) -> None:
    with pytest.raises(BadRequest, match="at most 128 are allowed"):
        small.ask(small.vocabulary.query()).explain_loss("x" * 129)
