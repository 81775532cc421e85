"""A trained network as the tables and layers of its graph; see ``graph`` for the algebra."""

import numpy as np
import torch

from export_scripts.scorer.graph import FoldedNCF, Table
from export_scripts.scorer.ncf import NCF


@torch.no_grad()
def fold(model: NCF) -> FoldedNCF:
    """Compute the tables and layers that give the same scores as ``model``."""
    scale = 1 / model.feature_std
    features = model.from_features.weight * scale  # (h, F)
    wide = model.wide.weight * scale
    shift, wide_shift = -features @ model.feature_mean, -(wide @ model.feature_mean)

    def table(tensor: torch.Tensor) -> Table:
        return np.ascontiguousarray(tensor.numpy(), dtype=np.float32)

    def basket(tensor: torch.Tensor) -> Table:
        rows = table(tensor).copy()
        rows[0] = 0
        return rows

    return FoldedNCF(
        user_gmf=table(model.user_gmf.weight),
        user_mlp=table(model.from_user(model.user_mlp.weight) + shift),
        basket_gmf=basket(model.basket_gmf.weight),
        basket_mlp=basket(model.from_basket(model.basket_mlp.weight)),
        item_gmf=table(model.item_gmf.weight * model.gmf_weights),
        item_mlp=table(model.from_item(model.item_mlp.weight)),
        item_bias=table(model.item_bias.weight + wide_shift),
        features=table(features.T),
        wide=table(wide.T),
        hidden=[
            (table(layer.get_parameter("weight").T), table(layer.get_parameter("bias")))
            for layer in model.hidden
        ],
        out=table(model.out.weight.T),
    )
