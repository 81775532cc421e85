"""The examples of `cesta paper`, its hold-out, and its lists to rank."""

import numpy as np
import pytest
import torch

from export_scripts.paper.examples import (
    Questions,
    draw_negatives,
    make_examples,
    make_test_questions,
    make_validation_questions,
    measure_quality,
    rank_of_first,
    ranks,
)
from export_scripts.paper.files import Protocol
from export_scripts.paper.models import new_model
from export_scripts.paper.trainers import Choice
from tests.building.tastes import USERS, one_user, rng, tastes


def test_the_last_item_by_time_is_held_out() -> None:
    """The order of the file does not matter."""
    examples = make_examples(one_user([4, 5, 6], [30, 10, 20]), rng())
    assert examples.items[examples.held_out].tolist() == [4]
    assert examples.items[examples.training].tolist() == [5, 6]


def test_among_equal_times_a_random_item_is_held_out() -> None:
    """A file sorted by item would otherwise hold out the same kind of item for everybody."""
    same = one_user([4, 5, 6], [0, 0, 0])
    held_out = {int(make_examples(same, np.random.default_rng(seed)).items[[2]].item()) for seed in range(20)}
    assert held_out == {4, 5, 6}


def test_a_users_only_item_is_trained_on() -> None:
    """If it were held out, nothing would be left to know the user by."""
    examples = make_examples(one_user([4], [1]), rng())
    assert examples.training.tolist() == [0]
    assert len(examples.held_out) == 0


def test_history_is_what_came_before() -> None:
    """The positive itself is never in the basket that predicts it, nor is another user's item."""
    examples = make_examples(tastes(), rng())
    everything = np.arange(len(examples.users))
    baskets = examples.history(everything, 10)
    assert not (baskets == examples.items[:, None]).any()
    assert (baskets > 0).sum(1).tolist() == [*range(9)] * USERS
    third = 2  # of user 1: latest first, then padding
    assert baskets[third].tolist() == [examples.items[1], examples.items[0], *[0] * 8]


def test_the_tests_history_is_the_whole_training_file() -> None:
    """The latest comes first. A user without training items has none."""
    protocol = one_user([4, 5, 6], [30, 10, 20])
    examples = make_examples(protocol, rng())
    assert make_test_questions(protocol, examples, 2).baskets.tolist() == [[4, 6]]
    stranger = Protocol(**{**vars(protocol), "test_users": np.array([2]), "n_users": 3})
    assert make_test_questions(stranger, make_examples(stranger, rng()), 2).baskets.tolist() == [[0, 0]]


def test_validation_never_shows_its_answer() -> None:
    """The answer is neither in the history nor among the negatives, and no training item is a negative."""
    examples = make_examples(tastes(), rng())
    questions = make_validation_questions(examples, 4, rng())
    met = examples.met(np.arange(len(examples.users)))
    assert questions.candidates[:, 0].tolist() == examples.items[examples.held_out].tolist()
    assert not (questions.baskets == questions.candidates[:, :1]).any()
    assert not met[questions.users[:, None], questions.candidates[:, 1:]].any()


def test_negatives_are_uniform_over_what_the_user_never_met() -> None:
    """User 1 never met items 3 and 4. The held-out item may be drawn, and so may the test item."""
    met = np.zeros((2, 5), bool)
    met[1, [0, 1, 2]] = True
    drawn = draw_negatives(met, np.ones(1000, int), 4, rng())
    assert set(np.unique(drawn).tolist()) == {3, 4}
    assert abs((drawn == 3).mean() - 0.5) < 0.03
    examples = make_examples(tastes(), rng())
    assert not examples.met(examples.training)[
        examples.users[examples.held_out], examples.items[examples.held_out]
    ].any()


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([3, 1, 2], 0), ([1, 3, 2], 2), ([1, 1, 0], 0.5), ([0, 0, 0], 1), ([np.nan, 1, 2], 2)],
)
def test_a_tie_is_half_a_loss(scores: list[float], expected: float) -> None:
    """A tie is half a loss, and a score that is not a number beats nothing."""
    assert rank_of_first(np.array([scores], np.float32)).tolist() == [expected]


def test_a_constant_scorer_gains_nothing() -> None:
    """The rank is 49.5 among 99 negatives."""
    examples = make_examples(tastes(), rng())
    questions = make_validation_questions(examples, 0, rng())
    model = new_model(Choice(0.1, 4, gmf=8), examples, 7)
    torch.nn.init.zeros_(model.user_gmf.weight)
    torch.nn.init.zeros_(model.item_bias.weight)
    assert measure_quality(model, questions) == (0, 0)


def test_what_stands_twice_in_a_line_is_ranked_once() -> None:
    """Row 0 is in place of the second one. It beats nothing, not even a score below its own."""
    model = new_model(Choice(0.1, 4, gmf=8), make_examples(tastes(), rng()), 7)
    torch.nn.init.zeros_(model.user_gmf.weight)
    with torch.no_grad():
        model.item_bias.weight[:4, 0] = torch.tensor([9.0, -3.0, -2.0, -4.0])
    questions = Questions(np.array([1]), np.zeros((1, 0), int), np.array([[1, 2, 3, 0]]))
    assert ranks(model, questions).tolist() == [1]


def test_the_whole_file_has_no_hold_out() -> None:
    """The last training trains on what had chosen its settings."""
    examples = make_examples(one_user([4, 5, 6], [30, 10, 20]), rng())
    assert examples.items[examples.whole().training].tolist() == [5, 6, 4]
    assert len(examples.whole().held_out) == 0
