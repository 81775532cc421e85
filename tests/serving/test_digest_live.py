"""Each answer of a real server carries its question's digest; a nonce asks past the response cache."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as triton

from cesta_client import Recommender, TimedOut, Unavailable
from ensemble.candidate_sampler.digest import INPUTS, query_digest
from tests.running.live import MODEL, Live
from tests.running.questions import Question, post, tensors

pytestmark = [pytest.mark.triton, pytest.mark.timeout(120)]


def digest(question: Question) -> bytes:
    columns = tensors([question])
    return query_digest(*(columns[name][0].tolist() for name in INPUTS))


def ask(live: Live, questions: Sequence[Question], **more: np.ndarray) -> triton.InferResult:
    inputs = []
    for name, array in (tensors(questions) | more).items():
        if array.size:
            inputs.append(triton.InferInput(name, array.shape, "BYTES"))
            inputs[-1].set_data_from_numpy(array)
    with triton.InferenceServerClient(live.grpc) as client:
        return client.infer(MODEL, inputs)


def test_each_query_of_a_batch_has_its_digest(uncached: Live) -> None:
    items = uncached.item_ids
    questions = [
        Question(tuple(items[:3]), uncached.user_ids[0]),
        Question(("no such item", " padded with blanks "), "nobody", tuple(items[3:60])),
        Question(categories=tuple(uncached.categories[:2])),
        Question(("käse",), exclude=("",)),
    ]
    expected = [[digest(question)] for question in questions]
    assert ask(uncached, questions).as_numpy("digest").tolist() == expected
    assert [ask(uncached, [question]).as_numpy("digest").tolist()[0] for question in questions] == expected


def test_plain_json_has_the_digest_too(live: Live) -> None:
    question = Question(tuple(live.item_ids[:2]), live.user_ids[0])
    answer = post(live, "generate", {"basket": question.basket, "user_id": question.user_id})
    assert answer["digest"] == digest(question).decode()
    assert post(live, "generate", {"user_id": ""})["digest"] == digest(Question()).decode()


def test_a_nonce_asks_past_the_cache_and_changes_nothing(live: Live) -> None:
    question = Question(("only asked", "with a nonce"), live.user_ids[0])
    plain = ask(live, [question])
    before = live.counts()["cache_miss"]
    for nonce in (b"1", b"2"):
        answer = ask(live, [question], nonce=np.array([[nonce]], object))
        for name in ("item_ids", "scores", "reasons", "digest"):
            assert answer.as_numpy(name).tolist() == plain.as_numpy(name).tolist()
    assert live.counts()["cache_miss"] == before + 2
    ask(live, [question])
    assert live.counts()["cache_miss"] == before + 2


def test_a_confused_cache_gives_itself_away(live: Live) -> None:
    """Triton's key has no shapes. The ids are this test's own, as the entry stays spoilt."""
    two, one = [Question(("apart",)), Question(("together",))], Question(("apart", "together"))

    def basket_only(questions: Sequence[Question]) -> triton.InferResult:
        array = tensors(questions)["basket"]
        basket = triton.InferInput("basket", array.shape, "BYTES")
        basket.set_data_from_numpy(array)
        with triton.InferenceServerClient(live.grpc) as client:
            return client.infer(MODEL, [basket])

    expected = [[digest(question)] for question in two]
    assert basket_only(two).as_numpy("digest").tolist() == expected
    confused = basket_only([one]).as_numpy("digest")
    assert confused.tolist() == expected != [[digest(one)]]


def test_callers_that_give_up_do_not_end_the_server(uncached: Live) -> None:
    """16 threads, deadlines of 1 to 20 ms. Cancelled calls ended it after 1,000 to 25,000 of them."""

    def give_up(seed: int) -> int:
        rng, late = random.Random(seed), 0
        for number in range(250):
            try:
                shop.recommend([f"{seed}-{number}"], timeout_s=rng.uniform(0.001, 0.02))
            except (TimedOut, Unavailable):
                late += 1
        return late

    with Recommender(uncached.grpc, retries=0) as shop, ThreadPoolExecutor(16) as threads:
        late = sum(threads.map(give_up, range(16)))
    assert late
    assert uncached.server.exit_code is None
    with Recommender(uncached.grpc, timeout_s=20) as shop:
        assert shop.recommend(uncached.item_ids[:1])
