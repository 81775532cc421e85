"""Ranks by the values of ranking.explore, from the scores of one value."""

import numpy as np

from ensemble.candidate_sampler.batch import Candidates
from ensemble.candidate_sampler.features import FEATURES
from export_scripts.quality.frontier import is_new, moved_ranks, values_around
from export_scripts.quality.metrics import MISSED

SCORES = np.array([[3.0, 2.0, 1.0, 0.0, -1e9]] * 4, np.float32)  # the last one is padding
NEW = np.array([[False, True, False, True, False]] * 4)


def test_new_items_move_and_others_keep_their_order() -> None:
    """Moved by 1.5, the list is 2nd, 1st, 4th, 3rd; by -1.5 it is 1st, 3rd, 2nd, 4th."""
    ranks = np.array([0.0, 1.0, 2.0, 3.0])
    moved = moved_ranks(SCORES, NEW, ranks, (0.0, 1.5, -1.5))
    assert moved.tolist() == [[0, 1, 0], [1, 0, 2], [2, 3, 1], [3, 2, 3]]


def test_a_missed_item_stays_missed_and_ties_keep_their_order() -> None:
    """Moved by 1, the second item's score is that of the first, and stays behind it."""
    moved = moved_ranks(SCORES, NEW, np.array([0.0, 1.0, MISSED, MISSED]), (1.0,))
    assert moved[:, 0].tolist() == [0, 1, MISSED, MISSED]


def test_flags_follow_the_items_into_the_order_of_the_list() -> None:
    """Items 7 and 9 are new; the list has them last and first, and ends with padding."""
    features = np.zeros((1, 5, len(FEATURES)), np.float32)
    features[0, [1, 3], FEATURES.index("new_to_user")] = 1
    rows = np.array([[8, 9, 6, 7, 0]], np.int32)
    candidates = Candidates(rows, features, np.ones_like(rows))
    ranked = np.array([[9, 6, 8, 7, 0]], np.int32)
    assert is_new(ranked, candidates).tolist() == [[True, False, False, True, False]]


def test_the_value_in_use_is_measured_too() -> None:
    values = values_around(0.25, 0.6)
    assert {0.25, 0.6, 0.0} <= set(values)
    assert list(values) == sorted(values)
