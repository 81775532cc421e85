"""Generated shops: sizes, shapes and bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from export_scripts.settings import load_settings
from loadtests.shops import chain, instacart
from loadtests.shops.__main__ import main
from loadtests.shops.assortment import Assortment
from loadtests.shops.chain import Chain, Size
from loadtests.shops.invented import SHOPS, make_tables
from loadtests.shops.tables import UNKNOWN, Lines

SMALL = Size(60_000, 600, 2_000)


def lines_of(size: Size, seed: int = 1) -> Lines:
    return Lines(*(np.concatenate(column) for column in zip(*Chain(size, seed).lines(), strict=True)))


def test_a_chain_has_the_wanted_size_and_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces, baskets and users are numbered through. Best sellers and heavy users stand out."""
    monkeypatch.setattr(chain, "PIECE", 7_000)
    lines = lines_of(SMALL)
    assert len(lines.items) == pytest.approx(SMALL.lines, rel=0.1)
    assert len(np.unique(lines.users)) == SMALL.users == lines.users.max() + 1
    baskets = np.unique(lines.baskets)
    assert (baskets == np.arange(len(baskets))).all()
    owner = np.zeros(len(baskets), np.int64)
    owner[lines.baskets] = lines.users
    assert (owner[lines.baskets] == lines.users).all()  # a basket has one user
    sold = np.sort(np.bincount(lines.items, minlength=SMALL.items))[::-1]
    assert 0.01 < sold[0] / len(lines.items) < 0.05
    assert sold[: SMALL.items // 10].sum() > 0.5 * len(lines.items)
    visits = np.bincount(owner)
    assert np.median(visits) < 0.8 * visits.mean()  # lognormal: a few users come far more often


def test_users_buy_again() -> None:
    """A user's second half of baskets repeats far more items of the first half than another user's does."""
    lines = lines_of(SMALL)
    late = lines.baskets % 2 == 1
    bought = np.unique(lines.users[~late] * SMALL.items + lines.items[~late])
    own = np.isin(lines.users[late] * SMALL.items + lines.items[late], bought).mean()
    other = np.isin((lines.users[late] + 1) % SMALL.users * SMALL.items + lines.items[late], bought).mean()
    assert own > 2 * other


def test_a_seed_decides_every_byte(tmp_path: Path) -> None:
    """Another seed gives another shop."""
    sizes = ["--lines", "3000", "--users", "40", "--items", "200"]
    for folder, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main(["own", str(tmp_path / folder), "--seed", seed, *sizes]) == 0
    a, b, c = ((tmp_path / folder / "transactions.parquet").read_bytes() for folder in "abc")
    assert a == b != c


def test_etl_finds_the_tables_of_a_written_shop(tmp_path: Path) -> None:
    """The settings name them relative to their own folder. Items that were sold are listed."""
    main(["tiny", str(tmp_path)])
    data = load_settings(tmp_path / "shop.toml").data
    assert data.transactions
    assert data.products
    sold = pq.read_table(data.transactions)["item_id"].unique().to_pylist()
    assert set(sold) <= set(pq.read_table(data.products)["item_id"].to_pylist())


def test_an_unknown_name_is_answered_with_the_known_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["S9", str(tmp_path)])
    assert "no shop is called S9: give one of S1, S2" in capsys.readouterr().err


def test_draws_within_a_group_stay_in_it() -> None:
    """The best seller of the group leads."""
    rng = np.random.default_rng(3)
    assortment = Assortment(100, 7, rng)
    drawn = assortment.draw_within(np.full(5_000, 4), rng)
    assert (assortment.group[drawn] == 4).all()
    assert np.bincount(drawn).argmax() == np.flatnonzero(assortment.group == 4)[0]


@pytest.mark.parametrize("name", SHOPS)
def test_an_invented_shop_has_its_habits(name: str) -> None:
    """Baskets in the order of time, and the users, categories and numbers that its habits say."""
    habits = replace(SHOPS[name], baskets=min(SHOPS[name].baskets, 3_000))
    lines, products = make_tables(habits, seed=1)
    assert len(np.unique(lines.baskets)) == habits.baskets
    assert (np.diff(lines.times) >= 0).all()
    assert bool(products.levels) == bool(habits.categories)
    assert ((lines.users == UNKNOWN) == (habits.users == 0)).all()
    assert set(lines.items) <= set(products.items)
    assert (lines.items.max() >= habits.items) == bool(habits.renewed_days)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_days_are_files_with_the_same_lines(tmp_path: Path, kind: str) -> None:
    """In the order of times, and the settings name the folder."""
    sizes = ["--lines", "2000", "--users", "40", "--items", "200"]
    main(["mine", str(tmp_path / "whole"), *sizes])
    main(["mine", str(tmp_path / "daily"), *sizes, "--days", kind])
    whole = duckdb.read_parquet(str(tmp_path / "whole" / "transactions.parquet"))
    table = load_settings(tmp_path / "daily" / "shop.toml").data.transactions
    assert [path.name for path in tmp_path.joinpath("daily").iterdir() if path.suffix == ".parquet"] == [
        "products.parquet"
    ]
    files = sorted(path for path in Path(str(table)).iterdir())
    lines: list[tuple[Any, ...]] = []
    for path in files:
        of_day = duckdb.execute(f"select * from '{path}'").fetchall()
        assert {str(line[3])[:10] for line in of_day} == {path.stem}
        assert of_day == sorted(of_day, key=lambda line: line[3])
        lines += of_day
    assert sorted(lines) == sorted(whole.fetchall())


def test_orders_of_a_sample_without_dates_end_on_the_same_day(tmp_path: Path) -> None:
    """Two users: one orders twice, three days apart; the second time an item is bought again."""
    (tmp_path / "sample.csv").write_text(
        "order_id,user_id,order_number,order_hour_of_day,days_since_prior_order,product_id,"
        "add_to_cart_order,reordered\n"
        "5,1,1,9,,70,1,0\n6,1,2,8,3,70,1,1\n6,1,2,8,3,71,2,0\n7,2,1,7,,70,1,0\n"
    )
    written = {}
    for form in instacart.FORMS:
        instacart.main([str(tmp_path / "sample.csv"), str(tmp_path / form), "--form", form])
        written[form] = (tmp_path / form / "transactions.csv").read_text().splitlines()
    assert written["all"] == [
        "basket_id,user_id,item_id,timestamp",
        "5,1,70,2024-12-28 09:00:00",
        "7,2,70,2024-12-31 07:00:00",
        "6,1,70,2024-12-31 08:00:00",
        "6,1,71,2024-12-31 08:00:00",
    ]
    assert written["first-purchases"] == [line for line in written["all"] if line[:6] != "6,1,70"]
    assert written["without-users-and-times"] == ["basket_id,item_id", "5,70", "7,70", "6,70", "6,71"]
