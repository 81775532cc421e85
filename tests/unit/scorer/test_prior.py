"""The prior leans to items that are new to the user, as far as the sampler loses no hidden item by it."""

import math

import pytest
import torch

from export_scripts.scorer.prior import RAISES, choose_raise, fit_linear

NEW = torch.tensor([[0.0, 0.0, 1.0]])  # two items that the user bought before, and one that is new


def test_the_largest_raise_with_as_many_hidden_items_is_chosen() -> None:
    """With two places the new item may overtake a usual one; with one place it may draw level, by 1."""
    scores = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [2.9, 2.0, 1.0]])
    new, hidden = NEW.expand(3, 3), torch.tensor([0, 2, 0])
    assert choose_raise(scores, new, hidden, capacity=2) == max(RAISES)
    assert choose_raise(scores[:, 1:], new[:, 1:], torch.tensor([0, 0, 0]), capacity=1) == 1.0


def test_nothing_is_raised_where_every_raise_loses_a_hidden_item() -> None:
    """The hidden item is the last one that is kept, and a quarter lifts the new item above it."""
    scores = torch.tensor([[3.0, 2.0, 1.9]])
    assert choose_raise(scores, NEW, torch.tensor([1]), capacity=2) == 0.0


def test_padding_is_never_among_the_best() -> None:
    """A place without an item has the score of minus infinity, with any raise."""
    scores = torch.tensor([[2.0, 1.0, -torch.inf, 0.0]])
    new = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    assert choose_raise(scores[:, :3], new[:, :3], torch.tensor([0]), capacity=1) == 0.0
    assert choose_raise(scores, new, torch.tensor([0]), capacity=1) == max(RAISES)


def test_nothing_is_raised_where_a_raise_changes_nothing() -> None:
    """All candidates fit, or all are alike: no raise changes which ones are kept."""
    scores = torch.tensor([[3.0, 2.0, 1.0]])
    assert choose_raise(scores, NEW, torch.tensor([0]), capacity=3) == 0.0
    assert choose_raise(scores, torch.zeros(1, 3), torch.tensor([0]), capacity=1) == 0.0
    assert choose_raise(scores, torch.ones(1, 3), torch.tensor([0]), capacity=1) == 0.0


def test_the_linear_score_is_that_of_the_least_loss() -> None:
    """Three of four times the item with the feature was bought: its odds are three to one."""
    features = torch.tensor([[[1.0], [0.0], [0.0]]]).expand(4, 3, 1)
    padding = torch.tensor([[False, False, True]]).expand(4, 3)
    weights = fit_linear(features, padding, torch.tensor([0, 0, 1, 0]), blend=torch.ones(1))
    assert float(weights) == pytest.approx(math.log(3), abs=1e-3)


def test_the_linear_score_is_the_same_from_one_thread_and_from_two() -> None:
    random = torch.Generator().manual_seed(1)
    features = torch.randn(300, 200, 28, generator=random)
    target = torch.randint(200, (300,), generator=random)
    fitted = []
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            fitted.append(
                fit_linear(features, torch.zeros(300, 200, dtype=torch.bool), target, torch.ones(28))
            )
        finally:
            torch.set_num_threads(before)
    assert torch.equal(*fitted)
