"""The released graph and torch score the whole catalog alike for every request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from loadtests.peers.whole_catalog import WholeCatalog

if TYPE_CHECKING:
    from tests.building.slices import Built

QUESTIONS = [{"basket": [], "user_id": ""}]


def test_the_released_graph_ranks_the_catalog_as_torch_does(built: Built) -> None:
    """The inputs are widened from 128 candidates to all items. Ids, order and scores are the network's."""
    shop = built.shop
    rows = shop.basket(shop.n_baskets - 1)[:3]
    basket = shop.catalog["item_id"].iloc[rows].tolist()
    questions = [*QUESTIONS, {"basket": basket, "user_id": shop.user_ids[1]}]
    by_graph, by_torch = (
        WholeCatalog(built.run, checkpoint).recommend(questions) for checkpoint in (None, built.checkpoint)
    )
    for of_graph, of_torch in zip(by_graph, by_torch, strict=True):
        assert len({*of_graph["item_ids"]}) == 20
        assert of_graph["scores"] == pytest.approx(of_torch["scores"], abs=1e-3)
        assert (
            len({*of_graph["item_ids"]} & {*of_torch["item_ids"]}) >= 19
        )  # a near tie may fall out at the end
