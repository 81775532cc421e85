"""`cesta explain` tells about the answers that a real server gives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ensemble.candidate_sampler.sources import SOURCES
from ensemble.explanation.explainer import Explainer
from ensemble.explanation.fates import Stage
from export_scripts.scoring.release import open_release
from operations.releases.stores.store import open_repository
from tests.building.scored import explainer_of_files
from tests.running.live import Live
from tests.running.questions import Question, over_http

pytestmark = pytest.mark.triton

QUESTIONS = 24
FIRST = 3  # items of each answer that are explained


@pytest.fixture(scope="module")
def explainer(live: Live) -> Iterator[Explainer]:
    with open_release(open_repository(live.built.repository), live.release) as files:
        yield explainer_of_files(files)


@pytest.fixture(scope="module")
def questions(live: Live) -> list[Question]:
    """Random real baskets, every second one with its user, every third with a filter or excluded items."""
    rng, shop = np.random.default_rng(11), live.built.shop
    found = []
    for place, number in enumerate(rng.choice(shop.n_baskets, QUESTIONS, replace=False).tolist()):
        basket = tuple(shop.catalog["item_id"].iloc[shop.basket(number)][:50])
        user = shop.user_ids[shop.users[number]] if place % 2 else ""
        exclude = tuple(rng.choice(live.item_ids[:300], 30, replace=False)) if place % 3 == 1 else ()
        categories = tuple(rng.choice(live.categories, 3, replace=False)) if place % 3 == 2 else ()
        found.append(Question(basket, user, exclude, categories))
    return found


def test_the_parts_add_up_to_the_scores_that_the_server_gives(
    live: Live, explainer: Explainer, questions: list[Question]
) -> None:
    reply = over_http(live, questions)
    explained = 0
    for i, question in enumerate(questions):
        served = dict(zip(reply.item_ids[i].tolist(), reply.scores[i].tolist(), strict=True))
        reasons = dict(zip(reply.item_ids[i].tolist(), reply.reasons[i].tolist(), strict=True))
        for one in explainer.ask(question.query(explainer.vocabulary)).explain_first(FIRST):
            parts = sum(part.total for part in one.groups)
            assert one.baseline + parts == pytest.approx(served[one.item_id], abs=1e-5), question
            assert sum(SOURCES[name] for name in one.sources) == reasons[one.item_id]
            explained += 1
    assert explained > QUESTIONS * FIRST // 2


def test_each_item_of_an_answer_has_its_place_and_the_others_a_stage(
    live: Live, explainer: Explainer, questions: list[Question]
) -> None:
    """The last item of each answer, and a best seller that is in none."""
    reply = over_http(live, questions)
    for i, question in enumerate(questions[::4]):
        asked = explainer.ask(question.query(explainer.vocabulary))
        served = [item_id for item_id in reply.item_ids[4 * i].tolist() if item_id]
        if served:
            last = asked.explain_loss(served[-1]).fate
            assert (last.stage, last.place) == (Stage.RANKED, len(served))
        missing = next(item_id for item_id in live.item_ids if item_id not in served)
        fate = asked.explain_loss(missing).fate
        assert fate.stage is not Stage.UNKNOWN
        assert fate.stage is not Stage.RANKED or (fate.place or 0) > len(served)
