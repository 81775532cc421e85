"""A training that dies anywhere continues where it was, and ends with the same weights."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
import torch

from export_scripts import train as train_module
from export_scripts.etl import etl
from export_scripts.freshness.code import SourceTree
from export_scripts.scorer import fitting
from export_scripts.scorer.checkpoint import load_curve
from export_scripts.scorer.resume import FOLDER, MARKER, SavedTraining
from export_scripts.settings import Settings, load_settings
from export_scripts.snapshots import partials
from export_scripts.train import train
from operations.errors import WontOverwrite
from operations.outputs import Outputs
from tests import ROOT
from tests.building.shops import Shop, make_shop

CHEAP: dict[str, Any] = {
    "retrieval.epochs": 1,
    "retrieval.dimensions": 4,
    "retrieval.uniform_negatives": 16,
    "train.epochs": 3,
    "train.patience": 3,
}
STEPS = ("train_in_parallel", "snapshot", "fit_prior", "collect_training_sets", "_validate")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread, so that a sum has one order, also in the killed process; two would not help shops this
    small.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Killed(BaseException):
    """An exception that nothing in the pipeline may catch."""


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return make_shop(tmp_path_factory.mktemp("shop"), np.random.default_rng(1), baskets=200)


@pytest.fixture(scope="module")
def settings(tables: Shop) -> Settings:
    return load_settings(overrides=tables.overrides() | CHEAP)


@pytest.fixture(scope="module")
def data(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return etl(settings, tmp_path_factory.mktemp("out"))


@pytest.fixture(scope="module")
def whole(settings: Settings, data: Path) -> bytes:
    """The checkpoint of an uninterrupted training."""
    return train(settings, data, data.parent / "checkpoint.pt").read_bytes()


def train_and_record(
    settings: Settings, data: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, die_at: str = ""
) -> tuple[list[str], list[dict[str, Any]]]:
    """Train; "_validate 2" dies in the second validation. Returns the steps that began, and the log."""
    begun: list[str] = []

    def counting(step: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any, **named: Any) -> Any:
            begun.append(f"{step} {sum(b.startswith(step) for b in begun) + 1}")
            if begun[-1] == die_at:
                raise Killed
            return work(*values, **named)

        return call

    with monkeypatch.context() as patch, structlog.testing.capture_logs() as events:
        for step in STEPS:
            home = fitting if step == "_validate" else train_module
            patch.setattr(home, step, counting(step, getattr(home, step)))
        if die_at:
            with pytest.raises(Killed):
                train(settings, data, checkpoint)
        else:
            train(settings, data, checkpoint)
    return begun, [event for event in events if event["event"] == "resumed"]


@pytest.mark.parametrize(
    ("die_at", "finished", "epochs"),
    [
        ("train_in_parallel 1", [], 0),
        ("snapshot 1", ["tower"], 0),
        ("fit_prior 1", ["tower", "arrays"], 0),
        ("collect_training_sets 1", ["tower", "arrays", "prior"], 0),
        ("_validate 2", ["tower", "arrays", "prior"], 0),  # in epoch 1
        ("_validate 3", ["tower", "arrays", "prior", "epoch"], 1),
    ],
)
def test_after_a_death_the_rest_is_done(
    settings: Settings,
    data: Path,
    whole: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    die_at: str,
    finished: list[str],
    epochs: int,
) -> None:
    """The bytes are the same. Finished steps are not repeated, and one line says so."""
    checkpoint = tmp_path / "checkpoint.pt"
    train_and_record(settings, data, checkpoint, monkeypatch, die_at)
    assert not checkpoint.exists()
    begun, logged = train_and_record(settings, data, checkpoint, monkeypatch)
    assert checkpoint.read_bytes() == whole
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.pt", partials.FOLDER}
    assert [(event["kept"], event["epochs"]) for event in logged] == (
        [(finished, epochs)] if finished else []
    )
    assert ("train_in_parallel 1" in begun) == ("tower" not in finished)
    assert ("snapshot 1" in begun) == ("arrays" not in finished)
    assert ("fit_prior 1" in begun) == ("prior" not in finished)
    assert sum(step.startswith("_validate") for step in begun) == (3 - epochs if epochs else 4)


def test_a_death_after_the_last_epoch_repeats_none(
    settings: Settings, data: Path, whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when the checkpoint is written, and has room the next time."""
    checkpoint = tmp_path / "checkpoint.pt"

    def full(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "save_checkpoint", full)
        with pytest.raises(Killed):
            train(settings, data, checkpoint)
    begun, logged = train_and_record(settings, data, checkpoint, monkeypatch)
    assert [step for step in begun if step.startswith("_validate")] == []
    assert logged[0]["epochs"] == 3
    assert checkpoint.read_bytes() == whole


def test_the_state_of_other_settings_is_thrown_away(
    tables: Shop,
    settings: Settings,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train_and_record(settings, data, tmp_path / "checkpoint.pt", monkeypatch, "_validate 3")
    other = load_settings(overrides=tables.overrides() | CHEAP | {"sampler.partners": 5})
    begun, logged = train_and_record(other, data, tmp_path / "checkpoint.pt", monkeypatch)
    assert {"snapshot 1", "fit_prior 1", "_validate 4"} <= set(begun)
    assert logged == []
    assert not (tmp_path / FOLDER).exists()


def test_the_state_of_other_code_is_thrown_away(
    settings: Settings, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_and_record(settings, data, tmp_path / "checkpoint.pt", monkeypatch, "_validate 3")
    monkeypatch.setattr(SourceTree, "digest", lambda *_: "another")
    begun, _ = train_and_record(settings, data, tmp_path / "checkpoint.pt", monkeypatch)
    assert "snapshot 1" in begun


def test_a_death_while_tidying_up_leaves_nothing_to_believe(tmp_path: Path) -> None:
    """The marker is emptied first: half of the arrays cannot pass for all of them."""
    folder = tmp_path / FOLDER
    saved = SavedTraining(folder, {"data": "a"})
    saved.load_or_fit_prior(lambda: np.ones(3, np.float32))
    (folder / MARKER).write_bytes(b"")
    again = SavedTraining(folder, {"data": "a"})
    assert again.load_or_fit_prior(lambda: np.zeros(3, np.float32)).tolist() == [0, 0, 0]
    again.discard()
    assert list(tmp_path.iterdir()) == []


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "thesis.tex").write_text("mine")
    with pytest.raises(WontOverwrite, match=r"has no made_from\.json"):
        SavedTraining(tmp_path / FOLDER, {})
    assert (tmp_path / FOLDER / "thesis.tex").read_text() == "mine"


def test_the_curve_begins_before_training(whole: bytes, data: Path) -> None:
    """Epoch 0 is the linear start; the chosen epoch has the lowest loss."""
    curve = load_curve(data.parent / "checkpoint.pt")
    assert [point["epoch"] for point in curve.epochs] == [0, 1, 2, 3]
    assert all(point.keys() == {"epoch", "loss", "hr_at_10", "ndcg_at_10"} for point in curve.epochs)
    assert curve.epochs[curve.kept]["loss"] == min(point["loss"] for point in curve.epochs)


def test_a_killed_training_is_resumed(
    settings: Settings,
    data: Path,
    whole: bytes,
    tables: Shop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`cesta train` gets SIGKILL as soon as it reports epoch 1."""
    out = Outputs(tmp_path)
    out.data.symlink_to(data)
    overrides = [f"{name}={json.dumps(value)}" for name, value in CHEAP.items()]
    overrides += [f"{name}={path}" for name, path in tables.overrides().items()]
    command = [sys.executable, "-m", "operations.cli", "train", "--out", str(tmp_path)]
    process = subprocess.Popen(
        command + [part for change in overrides for part in ("--set", change)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if '"epoch": 1,' in line:
            process.send_signal(signal.SIGKILL)
            break
    assert (process.wait(), "".join(lines)[-500:]) == (-signal.SIGKILL, "".join(lines)[-500:])
    process.stderr.close()
    assert not out.checkpoint.exists()
    _, logged = train_and_record(settings, data, out.checkpoint, monkeypatch)
    assert logged[0]["epochs"] >= 1
    assert out.checkpoint.read_bytes() == whole
