"""The features of a candidate, in the order of ``candidate_features``: what the wide term and the MLP see.

Computed by ``kernels.py`` alone, for training and serving alike. √ marks those of which the square root is
taken at the end: sums and shares with long tails, which a linear score and an MLP read better that way.
"""

from typing import Final

FEATURES: Final = (
    "user_count",  # log(1 + baskets of the user with the item)
    "user_share",  # √ the same as a share of the user's baskets
    "recency_15",  # √ sum over purchases of exp(-age / 15 days)
    "recency_60",  # √ sum over purchases of exp(-age / 60 days)
    "last_purchase",  # exp(-age of the last purchase / 30 days), 0 if never bought
    "due",  # √ age of the last purchase over the usual gap between them, at most 4; 0 below two purchases
    "overlap",  # √ own past baskets with the item, by cosine with this basket and exp(-age / 60 days)
    "overlap_best",  # √ the largest such cosine of one past basket
    "cosine_sum",  # √ co-occurrence cosine summed over the basket, over the square root of its size
    "cosine_max",  # √ largest co-occurrence cosine with one item of the basket
    "probability_sum",  # √ sum over basket items i of P(candidate | i), over the square root of their number
    "probability_max",  # √ largest P(candidate | i)
    "weight_sum",  # √ what the basket's items add to the candidate's chance, each given its other partners
    "weight_max",  # √ the largest of these weights
    "popularity",  # log of the share of baskets with the item, shifted to be positive
    "popularity_28",  # the same over the last 28 days before the counts end
    "category_in_basket",  # √ share of the basket's items in the candidate's finest category
    "category_share",  # √ share of the user's purchases in the candidate's finest category
    "category_recency",  # √ sum over the user's purchases in that category of exp(-age / 15 days)
    "category_cosine",  # √ co-occurrence cosine of that category with those of the basket, summed likewise
    "category_lift",  # √ the same with P(category | category of the basket)
    "in_category",  # √ the item's share of its category's sales
    "retrieval_user",  # inner product with the user in the retrieval tower's space
    "retrieval_basket",  # the same with the basket, summed over the square root of its size
    "history_size",  # log(1 + baskets of the user): alike for all candidates, a gate for the MLP
    "basket_size",  # log(1 + items in the basket): likewise
    "variety",  # distinct items over purchases of the user: one who keeps trying new things, likewise
    "new_to_user",  # 1 if the user is known and never bought the item
)
