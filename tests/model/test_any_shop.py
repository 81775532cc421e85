"""Shops that lack something, or have too much of something, get a release."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from export_scripts.build import build
from operations.errors import CestaError
from operations.outputs import Outputs
from operations.releases.signatures.verify import verify_release
from operations.releases.stores.store import open_repository
from tests.building.cheap_builds import settings_of
from tests.building.shops import make_shop


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return make_shop(tmp_path_factory.mktemp("shop"), np.random.default_rng(1)).overrides()


Change = Callable[[pd.DataFrame], pd.DataFrame]


def one_day(lines: pd.DataFrame) -> pd.DataFrame:
    return lines.assign(timestamp="2024-03-01T10:00:00")


def late_singles(lines: pd.DataFrame) -> pd.DataFrame:
    """After basket 200 every basket has one item, which leaves no query for training, validation or test."""
    late = lines["basket_id"].str[1:].astype(int) >= 200
    return lines[~late | ~lines.duplicated("basket_id")]


def non_ascii(lines: pd.DataFrame) -> pd.DataFrame:
    return lines.assign(item_id="寿司 " + lines["item_id"], user_id="ü" + lines["user_id"])


def giant_baskets(lines: pd.DataFrame) -> pd.DataFrame:
    """The last 40 baskets hold 250 items each, more than a request may name."""
    last = lines[lines["basket_id"] >= "b00360"].drop_duplicates("basket_id")
    items = [f"g{n:03d}" for n in range(250)] * len(last)
    more = last.loc[last.index.repeat(250)].assign(item_id=items)
    return pd.concat([lines, more], ignore_index=True).sort_values("timestamp", kind="stable")


SHOPS: dict[str, Change] = {
    "without users": lambda lines: lines.drop(columns="user_id"),
    "without timestamps": lambda lines: lines.drop(columns="timestamp"),
    "baskets and items alone": lambda lines: lines[["basket_id", "item_id"]],
    "of one moment": one_day,
    "of 60 baskets": lambda lines: lines[lines["basket_id"] < "b00060"],
    "of 30 baskets": lambda lines: lines[lines["basket_id"] < "b00030"],
    "without queries": late_singles,
    "with ids beyond ASCII": non_ascii,
    "with giant baskets": giant_baskets,
}


@pytest.mark.parametrize("shop", SHOPS)
def test_any_shop_gets_a_release(tables: dict[str, object], tmp_path: Path, shop: str) -> None:
    """There is no products table either. The release answers with items and finite scores."""
    lines = pd.read_csv(str(tables["data.transactions"]), dtype=str, keep_default_na=False)
    SHOPS[shop](lines).to_csv(tmp_path / "t.csv", index=False)
    out = Outputs(tmp_path / "out")
    assert build(settings_of({"data.transactions": tmp_path / "t.csv"}), out.root) == 1
    for golden in verify_release(open_repository(out.repository)).golden:
        answer = golden.answer
        assert answer.item_ids[0]
        assert np.isfinite(answer.scores).all()
        assert not set(answer.item_ids) & set(golden.request.basket)


def test_a_shop_without_any_item_to_recommend_is_told_why(tables: dict[str, object], tmp_path: Path) -> None:
    """Three receipts are too short a past."""
    lines = pd.read_csv(str(tables["data.transactions"]), dtype=str, keep_default_na=False)
    lines[lines["basket_id"] < "b00003"].to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(CestaError, match=r"no item is in 5 baskets \(sampler.min_support\)"):
        build(settings_of({"data.transactions": tmp_path / "t.csv"}), tmp_path / "out")
