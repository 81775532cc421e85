"""`cesta drift` on a built release of real receipts, whose last two weeks are taken for new ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner, Result

from export_scripts.commands.drift import DRIFTED, drift
from export_scripts.drift import receipts
from export_scripts.drift.receipts import Released, compare_receipts, open_release
from operations.drift.features import DAY, FEATURES, HOUR, WEEK
from operations.drift.live import NO_RECORD
from operations.errors import CestaError
from operations.releases.stores.store import open_repository
from tests.building.old_releases import unpack_old_repository

if TYPE_CHECKING:
    from tests.building.slices import Built

LAST = "2017-12-17T04:00:00Z"  # two weeks before the receipts end

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def released(built: Built) -> Released:
    """The release, as if it had been made two weeks earlier."""
    found = open_release(open_repository(built.repository), None)
    return replace(found, record=found.record.model_copy(update={"last": LAST}))


@pytest.fixture
def run(built: Built, released: Released, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Type `cesta drift` with a copy of the data that the test may change."""
    shutil.copytree(built.data, tmp_path / "data")
    monkeypatch.setattr(receipts, "open_release", lambda *_: released)

    def type_command(*words: str) -> Result:
        app = typer.Typer()
        app.command()(drift)
        return CliRunner().invoke(app, ["--out", str(tmp_path), *words])

    return type_command


def rename_items(data: Path, share: float) -> None:
    """Give so many of the items, the best sellers among them, ids that the release does not know."""
    catalog = pd.read_parquet(data / "catalog.parquet")
    chosen = catalog.index % round(1 / share) == 1
    catalog.loc[chosen, "item_id"] = "0" + catalog.loc[chosen, "item_id"]
    catalog.to_parquet(data / "catalog.parquet")


def test_the_manifest_holds_each_feature(built: Built) -> None:
    record = open_release(open_repository(built.repository), None).record
    assert set(record.features) == {feature.name for feature in FEATURES}
    assert all(histogram.observations > 100 for histogram in record.features.values())
    for window in (HOUR, DAY, WEEK):
        assert set(record.thresholds[window]) == {f.name for f in FEATURES if window in f.windows}
    assert len(record.score_edges) == 9


def test_healthy_receipts_end_with_0_and_a_page(run: Run, tmp_path: Path) -> None:
    done = run("--json")
    told = json.loads(done.stdout)
    drifted = [finding["feature"] for finding in told["findings"] if finding["drifted"]]
    assert (drifted, done.exit_code) == ([], 0)
    assert (told["since"], told["unknown_sales"]) == (LAST, 0)
    page = (tmp_path / "drift.html").read_text()
    assert "No drift" in page
    assert "distance by day" in page


def test_receipts_of_unknown_items_end_with_10(run: Run, tmp_path: Path) -> None:
    """Half of the items have other ids. The table and the page name the feature."""
    rename_items(tmp_path / "data", 0.5)
    done = run()
    assert done.exit_code == DRIFTED
    assert "DRIFT" in next(line for line in done.stdout.splitlines() if "unknown_items" in line)
    assert "Drift: share of unknown items" in (tmp_path / "drift.html").read_text()
    assert "units sold are of items" in done.stdout


def test_sales_of_unknown_items_are_counted_in_units(
    built: Built, released: Released, tmp_path: Path
) -> None:
    data = shutil.copytree(built.data, tmp_path / "data")
    lines = pd.read_parquet(data / "interactions.parquet")
    times = pd.read_parquet(data / "baskets.parquet")["time"]
    last = lines[lines["time"] == times.max()]
    item = last.loc[last["quantity"].idxmax(), "item_row"]
    catalog = pd.read_parquet(data / "catalog.parquet")
    catalog.loc[item, "item_id"] = "never heard of"
    catalog.to_parquet(data / "catalog.parquet")
    new = lines[lines["time"] > pd.Timestamp(LAST).timestamp()]
    expected = new.loc[new["item_row"] == item, "quantity"].sum() / new["quantity"].sum()
    assert compare_receipts(data, released).unknown_sales == pytest.approx(expected, rel=1e-4)


def test_half_a_day_decides_nothing(run: Run, built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    found = open_release(open_repository(built.repository), None)
    young = replace(found, record=found.record.model_copy(update={"last": "2017-12-31T16:00:00Z"}))
    monkeypatch.setattr(receipts, "open_release", lambda *_: young)
    done = run()
    assert done.exit_code == 0
    assert "are not enough to decide" in done.stdout


def test_without_new_receipts_nothing_is_compared(
    run: Run, built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A closed day is no error: a scheduler that asks each night would report it."""
    found = open_release(open_repository(built.repository), None)
    newest = replace(found, record=found.record.model_copy(update={"last": "2019-01-01T00:00:00Z"}))
    monkeypatch.setattr(receipts, "open_release", lambda *_: newest)
    done = run()
    assert done.exit_code == 0
    told = " ".join(done.stdout.split())  # without the breaks of long lines
    assert "no receipts after 2019-01-01T00:00:00Z, the last one of release 1; add new ones" in told
    assert "Nothing was compared." in done.stdout


def test_receipts_without_times_are_not_compared_with_a_release_that_has_them(built: Built) -> None:
    """The last moment is an ordinal, which as a time lies at the beginning of 1970."""
    released = open_release(open_repository(built.repository), None)
    untimed = replace(released, record=released.record.model_copy(update={"last": "1500"}))
    with pytest.raises(CestaError, match=r"receipts with times, and those of release \d+ have none"):
        compare_receipts(built.data, untimed)


def test_one_receipt_of_a_wrong_time_is_told(
    run: Run, built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The day of that receipt is the last one, and nothing else is in it."""
    monkeypatch.setattr(receipts, "COMPLETE", 1.0)
    monkeypatch.setattr(
        receipts, "_since", lambda baskets, time: baskets.part(len(baskets) - 1, len(baskets))
    )
    done = run()
    assert done.exit_code == 0
    assert "has too few receipts to decide; 30 are needed. Is the time" in done.stdout


def test_receipts_in_the_future_are_left_out(
    run: Run, built: Built, released: Released, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A till whose clock is wrong must not silence the comparison of all others."""
    now = pd.Timestamp("2017-12-28T00:00:00Z").timestamp()
    monkeypatch.setattr(receipts, "now_at_the_latest", lambda: now)
    times = pd.read_parquet(built.data / "baskets.parquet")["time"]
    told = json.loads(run("--json").stdout)
    assert told["in_future"] == (times > now).sum() > 0
    assert told["until"] == pd.Timestamp(times[times <= now].max(), unit="s").isoformat() + "Z"
    assert {finding["window"] for finding in told["findings"]} == {DAY, WEEK}
    assert told["unknown_sales"] == 0
    assert f"in the future are left out: {told['in_future']:,}." in run().stdout
    monkeypatch.setattr(receipts, "now_at_the_latest", lambda: now - 30 * 86_400)
    with pytest.raises(CestaError, match="which is in the future, so what is new cannot be told"):
        compare_receipts(built.data, released)


def test_a_release_without_a_reference_says_so(tmp_path: Path) -> None:
    repository = unpack_old_repository(tmp_path / "repository")
    with pytest.raises(CestaError) as refused:
        open_release(open_repository(repository), None)
    assert str(refused.value) == f"release 1: {NO_RECORD}"
