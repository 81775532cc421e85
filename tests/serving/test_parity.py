"""Server and `ensemble/reference.py` give the same answers on every protocol, alone and in batches."""

from __future__ import annotations

from itertools import cycle

import numpy as np
import pytest

from ensemble.reference import Answers
from export_scripts.receipts.shop import Shop
from tests.running.live import Live
from tests.running.questions import Question, Wire, over_generate, over_grpc, over_http, over_json

pytestmark = pytest.mark.triton

ALONE = {"http": over_http, "grpc": over_grpc, "generate": over_generate}
TOGETHER = {"http": over_http, "grpc": over_grpc, "json": over_json}
TIE = 1e-5  # closer scores may change places: the order of a sum depends on the batch it is in
BATCH = 64
ANSWER = ("item_ids", "scores", "reasons")


@pytest.fixture(scope="module")
def questions(live: Live) -> list[Question]:
    """576 queries about the latest real baskets, the usual and the rare forms."""
    rng, shop, kinds = np.random.default_rng(7), live.built.shop, cycle(KINDS)
    numbers = rng.choice(np.arange(shop.n_baskets - 3000, shop.n_baskets), 572, replace=False)
    return [
        *(
            next(kinds)(live, rng, _ids(shop, number), shop.user_ids[shop.users[number]])
            for number in numbers
        ),
        Question(),
        Question(basket=tuple(live.item_ids[:200]), user_id=live.user_ids[0]),
        Question(exclude=tuple(live.item_ids[:1000])),
        Question(categories=tuple(live.categories[:100]), exclude=tuple(live.item_ids[:1000])),
    ]


def _ids(shop: Shop, number: int) -> tuple[str, ...]:
    return tuple(shop.catalog["item_id"].iloc[shop.basket(number)][:199])


def _some(rng: np.random.Generator, of: list[str], most: int) -> tuple[str, ...]:
    return tuple(rng.choice(of, rng.integers(1, most + 1), replace=False).tolist())


KINDS = [
    lambda live, rng, basket, user: Question(basket, user),
    lambda live, rng, basket, user: Question(basket, user),
    lambda live, rng, basket, user: Question(basket),
    lambda live, rng, basket, user: Question(basket, "nobody"),
    lambda live, rng, basket, user: Question(user_id=user),
    lambda live, rng, basket, user: Question((*basket, "no such item"), user),
    lambda live, rng, basket, user: Question(("nothing", "known"), user),
    lambda live, rng, basket, user: Question(basket, user, exclude=_some(rng, live.item_ids[:500], 400)),
    lambda live, rng, basket, user: Question(basket, user, categories=_some(rng, live.categories, 3)),
    lambda live, rng, basket, user: Question(
        basket, exclude=_some(rng, live.item_ids, 9), categories=_some(rng, live.categories, 20)
    ),
]


@pytest.fixture(scope="module")
def expected(live: Live, questions: list[Question]) -> Answers:
    """(576, K) answers, each asked alone: an answer must not depend on its neighbours in the batch."""
    queries = [question.query(live.reference.vocabulary) for question in questions]
    answers = [live.reference.recommend([query]) for query in queries]
    return Answers(*(np.concatenate([getattr(a, name) for a in answers]) for name in ANSWER))


@pytest.mark.parametrize("wire", ALONE)
def test_a_question_gets_the_reference_s_answer(
    uncached: Live, questions: list[Question], expected: Answers, wire: str
) -> None:
    for number, question in enumerate(questions):
        check_batch(uncached, ALONE[wire], [question], expected, number)


@pytest.mark.parametrize("wire", TOGETHER)
def test_questions_in_one_request_get_the_reference_s_answers(
    uncached: Live, questions: list[Question], expected: Answers, wire: str
) -> None:
    for start in range(0, len(questions), BATCH):
        check_batch(uncached, TOGETHER[wire], questions[start : start + BATCH], expected, start)


def check_batch(live: Live, wire: Wire, batch: list[Question], expected: Answers, start: int) -> None:
    reply = wire(live, batch)
    assert reply.version == str(live.release)
    assert reply.item_ids.shape == (len(batch), 20)
    for i, question in enumerate(batch):
        got, want = ([getattr(answer, name)[place] for name in ANSWER] for answer, place in
                     ((reply, i), (expected, start + i)))  # fmt: skip
        assert differences(got, want) == [], question


def differences(got: list[np.ndarray], want: list[np.ndarray]) -> list[str]:
    """Differences between two answers (ids, scores, reasons) of K, beyond rounding and ties."""
    (got_ids, got_scores, got_reasons), (ids, scores, reasons) = got, want
    problems = []
    if not np.allclose(got_scores, scores, rtol=0, atol=1e-4):
        problems.append(f"scores differ by {np.abs(got_scores - scores).max()}")
    reason_of, score_of = dict(zip(ids, reasons, strict=True)), dict(zip(ids, scores, strict=True))
    for place, item in enumerate(got_ids):
        if item != ids[place] and abs(score_of.get(item, scores[-1]) - scores[place]) > TIE:
            problems.append(f"place {place} has {item} instead of {ids[place]}")
        elif item in reason_of and reason_of[item] != got_reasons[place]:
            problems.append(f"reasons of {item} are {got_reasons[place]} instead of {reason_of[item]}")
    return problems


def test_the_comparison_sees_what_it_should() -> None:
    """Swapped ties are equal; swapped items, a score off by a thousandth and other reasons are not."""
    ids, scores, reasons = np.array(["a", "b", "c"]), np.array([3, 1.000004, 1.0]), np.array([1, 2, 4])

    assert differences([ids[[0, 2, 1]], scores, reasons[[0, 2, 1]]], [ids, scores, reasons]) == []
    assert differences([ids[[1, 0, 2]], scores, reasons[[1, 0, 2]]], [ids, scores, reasons])
    assert differences([ids, scores + np.array([0, 0.001, 0]), reasons], [ids, scores, reasons])
    assert differences([ids, scores, reasons[[0, 2, 1]]], [ids, scores, reasons])


@pytest.mark.parametrize("wire", ALONE)
def test_a_cached_answer_is_the_computed_one_bit_for_bit(live: Live, wire: str) -> None:
    """Triton itself counts the hit."""
    question = Question((*live.item_ids[:3], f"asked twice, {wire}"), live.user_ids[1])
    before = live.counts()
    computed, cached = ALONE[wire](live, [question]), ALONE[wire](live, [question])
    after = live.counts()

    assert (after["cache_miss"] - before["cache_miss"], after["cache_hit"] - before["cache_hit"]) == (1, 1)
    assert cached.version == computed.version == str(live.release)
    for name in ANSWER:
        assert getattr(cached, name).tolist() == getattr(computed, name).tolist()


def test_the_order_of_ids_leaves_every_bit_of_an_answer_alone(uncached: Live) -> None:
    """The test sends raw requests, since the client would sort the ids: the sampler sorts again."""
    basket, exclude = tuple(uncached.item_ids[5:60]), tuple(uncached.item_ids[100:150])
    answers = [
        over_grpc(uncached, [Question(b, uncached.user_ids[2], e)])
        for b, e in ((basket, exclude), (basket[::-1], exclude[::-1]), (("", *basket, *basket[:9]), exclude))
    ]

    for name in ANSWER:
        first, *others = (getattr(answer, name).tolist() for answer in answers)
        assert others == [first, first]
