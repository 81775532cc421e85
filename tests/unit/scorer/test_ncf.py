"""The scorer (neural collaborative filtering) in torch: the equation of its docstring, and unknown rows."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from export_scripts.scorer.ncf import NCF, NCFShape

SHAPE = NCFShape(n_users=3, n_items=6, n_features=3, gmf=4, mlp=5, hidden=(6, 2))
BEYOND = [-1, 6, 2**31 - 1, -(2**31)]


@pytest.fixture
def model() -> NCF:
    """A model whose weights are all random, so that no branch is zero."""
    torch.manual_seed(1)
    ncf = NCF(SHAPE)
    for parameter in ncf.parameters():
        torch.nn.init.normal_(parameter)
    ncf.feature_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
    ncf.feature_std.copy_(torch.tensor([1.0, 0.5, 2.0]))
    return ncf.eval()


def score(
    model: NCF, user: int, basket: list[int], candidates: list[int], features: np.ndarray
) -> np.ndarray:
    with torch.no_grad():
        scores = model(
            torch.tensor([user]),
            torch.tensor([basket]),
            torch.tensor([candidates]),
            torch.tensor(features)[None],
        )
    return scores[0].numpy()


def by_hand(model: NCF, user: int, basket: list[int], item: int, features: np.ndarray) -> float:
    """The docstring's equation for one candidate, in numpy."""
    w = {name: tensor.numpy() for name, tensor in model.state_dict().items()}

    def vector(table: str, row: int) -> np.ndarray:
        return w[f"{table}.weight"][row]

    def pooled(table: str) -> np.ndarray:
        return sum(vector(table, row) for row in basket) / np.sqrt(len(basket))

    f = (features - w["feature_mean"]) / w["feature_std"]
    gmf = w["gmf_weights"] @ ((w["user_gmf.weight"][user] + pooled("basket_gmf")) * vector("item_gmf", item))
    side_by_side = np.concatenate(
        [w["user_mlp.weight"][user], pooled("basket_mlp"), vector("item_mlp", item), f]
    )
    first = np.hstack([w[f"from_{part}.weight"] for part in ("user", "basket", "item", "features")])
    x = np.maximum(first @ side_by_side + w["from_user.bias"], 0)
    x = np.maximum(w["hidden.0.weight"] @ x + w["hidden.0.bias"], 0)
    wide = w["wide.weight"][0] @ f + w["item_bias.weight"][item, 0]
    return float(gmf + w["out.weight"][0] @ x + wide)


def test_scores_are_those_of_the_equation(model: NCF) -> None:
    """One concatenated first layer in numpy equals the cut one in torch."""
    features = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    expected = [by_hand(model, 2, [1, 3], item, features[i]) for i, item in enumerate([2, 4, 5])]
    np.testing.assert_allclose(score(model, 2, [1, 3], [2, 4, 5], features), expected, rtol=1e-4)


def test_padding_of_the_basket_does_nothing(model: NCF) -> None:
    """Zeros neither add to the sum nor count in the root of the size."""
    features = np.ones((1, 3), np.float32)
    np.testing.assert_array_equal(
        score(model, 1, [1, 3, 0, 0], [2], features), score(model, 1, [1, 3], [2], features)
    )


def test_an_empty_basket_is_the_user_alone(model: NCF) -> None:
    """Nothing is divided by zero."""
    assert np.isfinite(score(model, 1, [0, 0], [2], np.ones((1, 3), np.float32))).all()


@pytest.mark.parametrize("row", BEYOND)
def test_rows_beyond_the_tables_are_row_0(model: NCF, row: int) -> None:
    """This holds for users, basket items and candidates."""
    features = np.ones((2, 3), np.float32)
    expected = score(model, 0, [0, 3], [0, 2], features)
    np.testing.assert_array_equal(score(model, row, [row, 3], [row, 2], features), expected)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("lacking", ["gmf", "hidden"])
def test_a_branch_of_width_0_is_not_there(lacking: str) -> None:
    """`cesta paper` trains GMF alone and MLP alone; the product has no GMF branch."""
    torch.manual_seed(2)
    ncf = NCF(replace(SHAPE, gmf=0) if lacking == "gmf" else replace(SHAPE, hidden=()))
    torch.nn.init.normal_(ncf.out.weight)
    features = np.zeros((2, 3), np.float32)
    one, other = score(ncf, 1, [3], [2, 4], features)
    assert np.isfinite([one, other]).all()
    assert one != other


def test_training_starts_without_the_mlp() -> None:
    """The last layer is zero, so that the wide term decides."""
    ncf = NCF(SHAPE)
    assert not ncf.out.weight.any()
    assert not ncf.item_bias.weight.any()
