"""The scorer in torch: the equation of its docstring, and what it makes of rows that it does not know."""

import numpy as np
import pytest
import torch

from export_scripts.ncf import NCF, NCFShape

SHAPE = NCFShape(n_users=3, n_items=6, n_ids=5, n_categories=4, n_features=3, gmf=4, mlp=5, hidden=(6, 2))
ID_ROWS = [0, 1, 2, 3, 4, 0]  # item 5 is below the support bar
CONTENT = [[0, 0], [1, 2], [1, 3], [2, 3], [1, 2], [1, 2]]
BEYOND = [-1, 6, 2**31 - 1, -(2**31)]


@pytest.fixture
def model() -> NCF:
    """Every weight random, so that no branch is silent."""
    torch.manual_seed(1)
    ncf = NCF(SHAPE, torch.tensor(ID_ROWS), torch.tensor(CONTENT))
    for parameter in ncf.parameters():
        torch.nn.init.normal_(parameter)
    for table in (ncf.basket_gmf, ncf.basket_mlp, ncf.item_gmf, ncf.item_mlp):
        table.content.weight.data[0] = 0
    ncf.feature_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
    ncf.feature_std.copy_(torch.tensor([1.0, 0.5, 2.0]))
    return ncf.eval()


def score(
    model: NCF, user: int, basket: list[int], candidates: list[int], features: np.ndarray
) -> np.ndarray:
    with torch.no_grad():
        found = model(
            torch.tensor([user]),
            torch.tensor([basket]),
            torch.tensor([candidates]),
            torch.tensor(features)[None],
        )
    return found[0].numpy()


def by_hand(model: NCF, user: int, basket: list[int], item: int, features: np.ndarray) -> float:
    """The docstring's equation for one candidate, in numpy."""
    w = {name: tensor.numpy() for name, tensor in model.state_dict().items()}

    def vector(table: str, row: int) -> np.ndarray:
        of_id = w[f"{table}.ids.weight"][ID_ROWS[row]]
        return of_id + sum(w[f"{table}.content.weight"][category] for category in CONTENT[row])

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
    wide = w["wide.weight"][0] @ f + w["item_bias.weight"][ID_ROWS[item], 0]
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
    """No division by zero."""
    assert np.isfinite(score(model, 1, [0, 0], [2], np.ones((1, 3), np.float32))).all()


@pytest.mark.parametrize("row", BEYOND)
def test_rows_beyond_the_tables_are_row_0(model: NCF, row: int) -> None:
    """Users, basket items and candidates alike."""
    features = np.ones((2, 3), np.float32)
    known = score(model, 0, [0, 3], [0, 2], features)
    np.testing.assert_array_equal(score(model, row, [row, 3], [row, 2], features), known)


def test_an_item_without_its_id_is_its_categories(model: NCF) -> None:
    """Items 1, 4 and 5 share their categories: with ids hidden they are one, and alike the rare item 5."""
    hide = torch.ones(SHAPE.n_items, dtype=torch.bool)
    with torch.no_grad():
        found = model(
            torch.tensor([1]), torch.tensor([[2]]), torch.tensor([[1, 4, 5]]), torch.ones(1, 3, 3), hide
        )[0]
    assert found[0] == found[1] == found[2]
    shown = score(model, 1, [2], [1, 4, 5], np.ones((3, 3), np.float32))
    assert len(set(shown.tolist())) == 3


def test_hiding_one_id_leaves_the_others(model: NCF) -> None:
    """Dropout of item 1 alone."""
    hide = torch.arange(SHAPE.n_items) == 1
    features = torch.ones(1, 2, 3)
    query = torch.tensor([1]), torch.tensor([[2]]), torch.tensor([[1, 4]]), features
    with torch.no_grad():
        shown, hidden = model(*query)[0], model(*query, hide)[0]
    assert shown[0] != hidden[0]
    assert shown[1] == hidden[1]


def test_training_starts_without_the_mlp() -> None:
    """Its last layer is zero, so that the wide term decides."""
    ncf = NCF(SHAPE, torch.tensor(ID_ROWS), torch.tensor(CONTENT))
    assert not ncf.out.weight.any()
    assert not ncf.item_bias.weight.any()
