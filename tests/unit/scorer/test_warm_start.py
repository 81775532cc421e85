"""A training on later receipts starts from the last one's tower, again from the same, or says why not."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import structlog
import torch

from export_scripts import train as train_module
from export_scripts.etl import etl
from export_scripts.receipts.shop import load_shop
from export_scripts.scorer.checkpoint import load_earlier_tower
from export_scripts.scorer.resume import SavedTraining
from export_scripts.settings import Settings, load_settings
from export_scripts.snapshots import partials
from export_scripts.snapshots.retrieval import training
from export_scripts.train import train
from operations.errors import CestaError
from tests.building.shops import Shop, make_shop

CHEAP: dict[str, Any] = {
    "retrieval.epochs": 5,
    "retrieval.dimensions": 4,
    "retrieval.uniform_negatives": 16,
    "retrieval.warm_starts": 2,
    "train.epochs": 1,
}
NAMES = {"checkpoint.pt", "checkpoint.earlier.pt", partials.FOLDER}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread, so that a sum has one order; two would not help shops this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", autouse=True)
def goes_on() -> Iterator[None]:
    """The towers of these small shops go on, as those of large ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "LEAST_CONTINUED", 0)
        yield


@dataclass(frozen=True)
class Weeks:
    """Etl's tables of a shop as they were on three days, and the checkpoints of the first two."""

    data: list[Path]
    first: Path
    second: Path  # it went on with the first one's tower


def settings_of(**changes: object) -> Settings:
    return load_settings(overrides=CHEAP | {"data.transactions": "unread.csv"} | changes)


def receipts_until(share: float, tables: Shop, folder: Path) -> Path:
    lines = pd.read_csv(tables.transactions, dtype=str, keep_default_na=False)
    folder.mkdir()
    lines[: int(share * len(lines))].to_csv(folder / "transactions.csv", index=False)
    given = {"data.transactions": folder / "transactions.csv", "data.products": tables.products}
    return etl(load_settings(overrides=given), folder)


@pytest.fixture(scope="module")
def weeks(tmp_path_factory: pytest.TempPathFactory) -> Weeks:
    folder = tmp_path_factory.mktemp("weeks")
    tables = make_shop(folder / "shop", np.random.default_rng(1), baskets=300)
    data = [receipts_until(share, tables, folder / f"{share}") for share in (0.7, 0.85, 1)]
    first = train(settings_of(), data[0], folder / "first" / "checkpoint.pt")
    return Weeks(data, first, train(settings_of(), data[1], folder / "second" / "checkpoint.pt", first))


@pytest.fixture
def checkpoint(weeks: Weeks, tmp_path: Path) -> Path:
    """The checkpoint of the first day, where the next training writes."""
    return Path(shutil.copy(weeks.first, tmp_path / "checkpoint.pt"))


def logged_training(
    settings: Settings, data: Path, checkpoint: Path, warm_from: Path | None = None
) -> list[str]:
    with structlog.testing.capture_logs() as events:
        train(settings, data, checkpoint, warm_from)
    starts = {"warm start", "new tower"}
    return [f"{event['event']}: {event.get('why', '')}" for event in events if event["event"] in starts]


def test_a_training_goes_on_with_the_last_tower(weeks: Weeks, checkpoint: Path) -> None:
    """It takes one more step, a fifth of a new one's. Done again, it starts there again and gives the same
    bytes, as a training does that is given a copy of the first checkpoint.
    """
    first = load_earlier_tower(checkpoint)
    assert logged_training(settings_of(), weeks.data[1], checkpoint) == ["warm start: "]
    assert checkpoint.read_bytes() == weeks.second.read_bytes()
    second = load_earlier_tower(checkpoint)
    assert (first.warm, second.warm) == (0, 1)
    assert second.tower.steps == first.tower.steps + 1
    assert second.last_time > first.last_time
    assert {path.name for path in checkpoint.parent.iterdir()} == NAMES
    assert logged_training(settings_of(), weeks.data[1], checkpoint) == ["warm start: "]
    assert checkpoint.read_bytes() == weeks.second.read_bytes()
    assert checkpoint.with_name("checkpoint.earlier.pt").read_bytes() == weeks.first.read_bytes()


@pytest.mark.parametrize("die_at", ["keep_earlier", "discard"])
def test_after_a_death_it_starts_from_the_same_tower(
    weeks: Weeks, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, die_at: str
) -> None:
    """Also after a death when the new checkpoint has replaced the one that it started from."""

    class Killed(BaseException):
        pass

    def dies(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(SavedTraining if die_at == "discard" else train_module, die_at, dies)
        with pytest.raises(Killed):
            train(settings_of(), weeks.data[1], checkpoint)
    train(settings_of(), weeks.data[1], checkpoint, checkpoint)
    assert checkpoint.read_bytes() == weeks.second.read_bytes()
    assert not (checkpoint.parent / "training").exists()


def test_so_many_times_in_a_row(weeks: Weeks, checkpoint: Path) -> None:
    """With `warm_starts = 1`, the training after a warm one is new."""
    shutil.copy(weeks.second, checkpoint)
    settings = settings_of(**{"retrieval.warm_starts": 1})
    (told,) = logged_training(settings, weeks.data[2], checkpoint)
    assert "has gone on with an earlier tower 1 times in a row, and retrieval.warm_starts is 1" in told
    assert load_earlier_tower(checkpoint).warm == 0


def test_without_warm_starts_the_last_tower_is_not_read(weeks: Weeks, checkpoint: Path) -> None:
    assert logged_training(settings_of(**{"retrieval.warm_starts": 0}), weeks.data[1], checkpoint) == []
    assert load_earlier_tower(checkpoint).warm == 0
    assert {path.name for path in checkpoint.parent.iterdir()} == NAMES - {"checkpoint.earlier.pt"}


def test_a_tower_that_has_seen_the_questions_is_refused(weeks: Weeks, checkpoint: Path) -> None:
    """The checkpoint of the second day is given for the first day's receipts."""
    with pytest.raises(CestaError, match=r"leak: .* has seen receipts up to 2024-.*, and this training asks"):
        train(settings_of(), weeks.data[0], checkpoint, weeks.second)
    (told,) = logged_training(settings_of(), weeks.data[0], Path(shutil.copy(weeks.second, checkpoint)))
    assert told.startswith("new tower: leak: ")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"retrieval.dimensions": 5}, r"trained with retrieval\.dimensions = 4 \(now 5\): use the same"),
        ({"train.seed": 8}, r"trained with train\.seed = 7 \(now 8\): use the same"),
        ({"sampler.min_support": 4}, r"trained with sampler\.min_support = 5 \(now 4\)"),
    ],
)
def test_a_tower_of_other_settings_is_refused(
    weeks: Weeks, tmp_path: Path, changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(CestaError, match=sentence):
        train(settings_of(**changes), weeks.data[1], tmp_path / "checkpoint.pt", weeks.first)


def test_a_tower_of_the_same_receipts_is_refused(weeks: Weeks, tmp_path: Path) -> None:
    with pytest.raises(CestaError, match="no receipts lie between its end and this training's"):
        train(settings_of(), weeks.data[0], tmp_path / "checkpoint.pt", weeks.first)


def test_a_tower_of_another_shop_is_refused(weeks: Weeks, tmp_path: Path) -> None:
    lines = pd.read_csv(weeks.data[1].parent / "transactions.csv", dtype=str, keep_default_na=False)
    lines.assign(item_id="x" + lines["item_id"]).to_csv(tmp_path / "transactions.csv", index=False)
    data = etl(load_settings(overrides={"data.transactions": tmp_path / "transactions.csv"}), tmp_path)
    with pytest.raises(CestaError, match=r"these receipts list 0 of its 60 items: it is another shop's"):
        train(settings_of(), data, tmp_path / "checkpoint.pt", weeks.first)


def test_a_tower_of_receipts_without_times_is_refused(weeks: Weeks, tmp_path: Path) -> None:
    """One counts seconds and the other baskets, so nothing tells what it has seen."""
    lines = pd.read_csv(weeks.data[1].parent / "transactions.csv", dtype=str, keep_default_na=False)
    lines.drop(columns="timestamp").to_csv(tmp_path / "transactions.csv", index=False)
    data = etl(load_settings(overrides={"data.transactions": tmp_path / "transactions.csv"}), tmp_path)
    assert load_shop(data).day != load_shop(weeks.data[1]).day
    with pytest.raises(CestaError, match="only one of its receipts and these have time stamps"):
        train(settings_of(), data, tmp_path / "checkpoint.pt", weeks.first)


def test_a_damaged_checkpoint_is_no_start(weeks: Weeks, checkpoint: Path) -> None:
    checkpoint.write_bytes(b"not torch's")
    (told,) = logged_training(settings_of(), weeks.data[1], checkpoint)
    assert "is damaged or was written by another version" in told


def test_the_checkpoint_names_its_rows(weeks: Weeks) -> None:
    """Ids are text, so that loading runs no pickled code."""
    saved = torch.load(weeks.first, weights_only=True)
    names = json.loads(saved["numbering"])
    assert names["items"][:2] == ["", "0000"]
    assert names["users"][0] == ""
    assert "dairy" in names["categories"]
