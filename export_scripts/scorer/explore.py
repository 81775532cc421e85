"""Explore: log odds that the scorer adds to items new to the customer.

A list of the likeliest items holds few new ones, because a repeat is likelier than any single new item. The
constant stands in the wide term, as the weight of the feature new_to_user, so it costs no time when the
scorer serves. It is added after training: another value needs no other training.
"""

from typing import Final, Literal

import torch

from ensemble.candidate_sampler.features import FEATURES
from export_scripts.scorer.ncf import NCF

AUTO: Final = "auto"  # the value of ranking.explore that leaves the choice to validation
NEW_TO_USER: Final = FEATURES.index("new_to_user")


def explore_of(setting: float | Literal["auto"], chosen: float) -> float:
    """The log odds to add: those of the ``setting``, or those that validation has ``chosen``."""
    return chosen if setting == AUTO else setting


@torch.no_grad()
def add_explore(model: NCF, explore: float) -> None:
    """Add ``explore`` to the scores of items that are new to the user, in place."""
    model.wide.weight[0, NEW_TO_USER] += explore * model.feature_std[NEW_TO_USER]
