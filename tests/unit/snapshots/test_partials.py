"""Pairs that are kept: counted once, found again by their content, bounded, and never wrong."""

import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from export_scripts.engines.local import ThisProcess
from export_scripts.receipts.shop import Shop
from export_scripts.settings import load_settings
from export_scripts.snapshots import partials
from export_scripts.snapshots.counts import lines_of
from export_scripts.snapshots.pairs import PairCounts, count_pairs
from export_scripts.snapshots.partials import ROOM, PartialCounts
from operations.errors import CestaError
from tests.building.world import random_shop

SETTINGS = load_settings().sampler
SHOP = random_shop(np.random.default_rng(6))


class Watched(ThisProcess):
    """Notes the ranges of baskets that are counted."""

    def __init__(self) -> None:
        self.counted: list[tuple[int, int]] = []

    def map(self, function, parts, shared):  # type: ignore[no-untyped-def]
        parts = list(parts)
        self.counted += [tuple(part) for part in parts]
        return super().map(function, parts, shared)


def pairs_before(ends: list[int], folder: Path | None, shop: Shop = SHOP) -> tuple[list[PairCounts], list]:
    """The pairs of items before each of the ends, and the ranges that were counted for them."""
    watched = Watched()
    counted = PartialCounts(shop, SETTINGS, folder, watched)
    return [counted.pairs(end) for end in ends], watched.counted


def check_equal(pairs: PairCounts, end: int, shop: Shop = SHOP) -> None:
    for a, b in zip(pairs, count_pairs(lines_of(shop, SETTINGS.largest_basket).before(end)), strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


def first(shop: Shop, end: int) -> Shop:
    """The shop as it was before basket ``end``."""
    return replace(
        shop,
        offsets=shop.offsets[: end + 1],
        items=shop.items[: shop.offsets[end]],
        users=shop.users[:end],
        times=shop.times[:end],
    )


def test_each_basket_is_counted_once(tmp_path: Path) -> None:
    ends = [0, 100, 150, 250]
    sums, counted = pairs_before(ends, tmp_path)
    for pairs, end in zip(sums, ends, strict=True):
        check_equal(pairs, end)
    assert counted == [(0, 0), (0, 100), (100, 150), (150, 250)]
    assert pairs_before(ends[1:], tmp_path)[1] == []


def test_without_a_folder_nothing_is_kept() -> None:
    assert pairs_before([100, 250], None)[1] == [(0, 100), (0, 250)]


def test_the_pairs_of_categories_are_kept_apart(tmp_path: Path) -> None:
    watched = Watched()
    counted = PartialCounts(SHOP, SETTINGS, tmp_path, watched)
    kept = [counted.category_pairs(end) for end in (100, 250)]
    assert watched.counted == [(0, 100), (100, 250)]
    for a, b in zip(kept[1], PartialCounts(SHOP, SETTINGS).category_pairs(250), strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


def test_the_next_training_counts_only_new_baskets(tmp_path: Path) -> None:
    """A new item lies in the middle of the catalog: all rows behind it have moved."""
    pairs_before([100, 180], tmp_path, first(SHOP, 180))
    rows = np.arange(SHOP.n_items + 1)
    catalog = pd.concat(
        [SHOP.catalog.iloc[:50], SHOP.catalog.iloc[:1], SHOP.catalog.iloc[50:]], ignore_index=True
    )
    catalog.loc[50, "item_id"] = "i0049-new"
    grown = replace(SHOP, catalog=catalog, items=np.delete(rows, 50)[SHOP.items].astype(np.int32))
    grown.items[grown.offsets[200]] = 50  # somebody buys it
    grown.items[grown.offsets[200] : grown.offsets[201]].sort()
    sums, counted = pairs_before([120, 250], tmp_path, grown)
    assert counted == [(100, 120), (180, 250)]
    for pairs, end in zip(sums, (120, 250), strict=True):
        check_equal(pairs, end, grown)


def test_a_late_receipt_has_its_stretch_counted_again(tmp_path: Path) -> None:
    pairs_before([100, 150, 250], tmp_path)
    items = SHOP.items.copy()
    basket = items[SHOP.offsets[120] : SHOP.offsets[121]]
    basket[-1] = SHOP.n_items - 1
    changed = replace(SHOP, items=items)
    sums, counted = pairs_before([250], tmp_path, changed)
    assert counted == [(100, 250)]
    check_equal(sums[0], 250, changed)


def test_another_limit_of_a_basket_counts_again(tmp_path: Path) -> None:
    pairs_before([100], tmp_path)
    watched = Watched()
    PartialCounts(SHOP, SETTINGS.model_copy(update={"largest_basket": 5}), tmp_path, watched).pairs(100)
    assert watched.counted == [(0, 100)]


def test_a_damaged_stretch_is_counted_again(tmp_path: Path) -> None:
    pairs_before([100], tmp_path)
    (path,) = tmp_path.glob("items/*/together.npy")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    sums, counted = pairs_before([100], tmp_path)
    assert counted == [(0, 100)]
    check_equal(sums[0], 100)
    assert pairs_before([100], tmp_path)[1] == []


def test_pairs_of_other_baskets_are_refused(tmp_path: Path) -> None:
    """A stretch says that it ends at basket 100, and holds basket 100, too: its digest is right."""
    pairs_before([101], tmp_path / "more")
    pairs_before([100], tmp_path)
    (more,), (path,) = (tmp_path / "more").glob("items/*"), tmp_path.glob("items/*")
    for file in path.iterdir():
        file.write_bytes((more / file.name).read_bytes())
    n = len(SHOP.basket(100))
    with pytest.raises(CestaError, match=f"the pairs of {n} items are not those of the 100 baskets"):
        pairs_before([100], tmp_path)


def test_the_folder_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Daily trainings add a short stretch each; long sums are kept as one, and what is unused goes."""
    monkeypatch.setattr(partials, "LEAST_ROOM", 0)
    for end in range(100, 250, 3):
        (pairs,), counted = pairs_before([end], tmp_path)
        assert sum(last - start for start, last in counted) <= 100
        bytes_kept = sum(file.stat().st_size for file in tmp_path.glob("items/*/*.npy"))
        assert bytes_kept <= ROOM * pairs.size
    check_equal(pairs, end)


def die_before_the_rename(folder: Path) -> None:
    partials.flush = lambda _: os.kill(os.getpid(), signal.SIGKILL)
    pairs_before([100], folder)


def test_a_kill_leaves_nothing_half_written(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=die_before_the_rename, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (left,) = (tmp_path / "items").iterdir()
    assert left.name.startswith(".")
    os.utime(left, (0, 0))  # long ago
    sums, counted = pairs_before([100], tmp_path)
    assert counted == [(0, 100)]
    check_equal(sums[0], 100)
    assert not left.exists()


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(partials, "flush", refuse)
    with pytest.raises(OSError, match="No space left"):
        pairs_before([100], tmp_path)
    assert list((tmp_path / "items").iterdir()) == []
