"""Whether a server answers what the reference answers; a fast wrong server is no contestant."""

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
    """Raise DisagreementError unless all answers are the expected ones."""
    for question, right in zip(questions, expected, strict=True):
        found = ask(question)
        if not agree(found, right):
            raise DisagreementError(f"{question} is answered {found}; the reference says {right}")


def agree(found: Answer, right: Answer) -> bool:
    """The same items at the same scores; those whose scores are equal to the tolerance may change places."""
    if len(found.scores) != len(right.scores) or not np.allclose(
        found.scores, right.scores, atol=TOLERANCE, rtol=0
    ):
        return False
    score_of = dict(zip(right.item_ids, right.scores, strict=True))
    worst = min(right.scores, default=0.0)  # the last place may be a tie with one that is no longer listed
    pairs = zip(found.item_ids, found.scores, strict=True)
    return all(abs(score_of.get(item, worst) - score) <= TOLERANCE for item, score in pairs)


def over_grpc(address: str) -> Callable[[Question], Answer]:
    """Ask with the client."""
    shop = Recommender(address, timeout_s=10)

    def ask(question: Question) -> Answer:
        found = shop.recommend(question.basket, user_id=question.user_id or None, k=20)
        return Answer([item.item_id for item in found], [item.score for item in found])

    return ask
