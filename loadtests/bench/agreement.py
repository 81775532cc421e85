"""Checks that a server gives the reference's answers. A fast server with wrong answers is not measured."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from cesta_client import Recommender
from loadtests.questions import Question
from loadtests.wires import Answer

TOLERANCE: Final = 1e-3  # of a score


class DisagreementError(Exception):
    """A server's answer differs from the reference's."""


def check(
    ask: Callable[[Question], Answer], questions: Sequence[Question], expected: Sequence[Answer]
) -> None:
    """Raise DisagreementError unless every answer is the expected one."""
    for question, expected_answer in zip(questions, expected, strict=True):
        answer = ask(question)
        if not agree(answer, expected_answer):
            raise DisagreementError(f"the answer to {question} is {answer}; expected {expected_answer}")


def agree(answer: Answer, expected: Answer) -> bool:
    """Tell whether items and scores agree. Items of equal score, to the tolerance, may change places."""
    if len(answer.scores) != len(expected.scores) or not np.allclose(
        answer.scores, expected.scores, atol=TOLERANCE, rtol=0
    ):
        return False
    score_of = dict(zip(expected.item_ids, expected.scores, strict=True))
    worst = min(expected.scores, default=0.0)  # the last item may tie with one that did not fit in the list
    pairs = zip(answer.item_ids, answer.scores, strict=True)
    return all(abs(score_of.get(item, worst) - score) <= TOLERANCE for item, score in pairs)


def connect_grpc(address: str) -> Callable[[Question], Answer]:
    """A function that asks one question with the client over gRPC."""
    shop = Recommender(address, timeout_s=10)

    def ask(question: Question) -> Answer:
        items = shop.recommend(question.basket, user_id=question.user_id or None, k=20)
        return Answer([item.item_id for item in items], [item.score for item in items])

    return ask
