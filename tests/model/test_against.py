"""A later build is held against the active release, on receipts that neither has seen."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from export_scripts.build import build
from export_scripts.engines.local import ThisProcess
from export_scripts.quality.against.comparison import Candidate, as_released, compare
from export_scripts.quality.metrics import TOP
from export_scripts.receipts.shop import load_shop
from export_scripts.replay.faults import HEALTHY, SHUFFLED_MODEL
from export_scripts.replay.figures import collect
from export_scripts.replay.plan import FROZEN, WEEKLY
from export_scripts.replay.run import Replay
from export_scripts.replay.trial import read_case
from export_scripts.scorer.checkpoint import load_checkpoint, load_tower
from export_scripts.settings import Settings
from export_scripts.snapshots.splits import split_by_time
from operations.outputs import Outputs
from operations.records.comparison import Comparison
from operations.records.contract import read_contract
from operations.releases.repository import read_release
from operations.releases.stores.store import open_repository
from tests.building.cheap_builds import settings_of
from tests.building.shops import make_shop

LATER = pd.Timestamp(
    "2024-04-22T00:00:00"
)  # eight days before the end, in the test period of the second build


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outputs, Settings]:
    """A release of the receipts before LATER, then another of all receipts."""
    folder, out = tmp_path_factory.mktemp("shop"), Outputs(tmp_path_factory.mktemp("built"))
    shop = make_shop(folder, np.random.default_rng(1))
    lines = pd.read_csv(shop.transactions, dtype=str)
    lines[lines["timestamp"] < LATER.isoformat()].to_csv(shop.transactions, index=False)
    settings = settings_of(shop.overrides(), **{"evaluate.full_catalog": 1, "train.epochs": 1})
    build(settings, out.root)
    lines.to_csv(shop.transactions, index=False)
    build(settings, out.root, promotion=None)
    return out, settings


def candidate_of(out: Outputs, settings: Settings) -> Candidate:
    model, prior = load_checkpoint(out.checkpoint, load_shop(out.data), settings)
    return Candidate(model, prior, load_tower(out.checkpoint), out.root / "counts")


def test_the_questions_are_newer_than_the_active_releases_receipts(twice: tuple[Outputs, Settings]) -> None:
    """The result is in the manifest of the second release; the first had nothing to be compared with."""
    repository = open_repository(twice[0].repository)
    first, second = (read_release(repository, number) for number in (1, 2))
    assert first.comparison() is None
    compared = second.comparison()
    assert compared is not None
    assert (compared.release, compared.digest, compared.problem) == (1, first.digest, None)
    assert first.data is not None
    assert first.data.last is not None
    assert compared.since is not None
    assert first.data.last < LATER.isoformat() <= compared.since
    assert compared.n > 10
    assert set(compared.difference) == {"hr_at_10", "ndcg_at_10"}
    for metric, difference in compared.difference.items():
        assert difference == pytest.approx(compared.candidate[metric] - compared.active[metric], abs=2e-4)
    assert compared.receipts is not None
    assert compared.receipts.shared is not None
    assert compared.receipts.shared.then == compared.receipts.shared.now == first.data.baskets


def test_the_candidate_knows_nothing_of_the_questions(twice: tuple[Outputs, Settings]) -> None:
    """Counts, histories and clock end before the first basket that is asked about."""
    out, settings = twice
    shop = load_shop(out.data)
    start = shop.first_basket_at(int(LATER.timestamp()))
    reference = as_released(
        shop, start, candidate_of(out, settings), settings, read_contract(), ThisProcess()
    )
    arrays = reference.sampler.arrays
    assert reference.sampler.now == shop.times[start - 1] + 1
    assert arrays.histories.times.max() < shop.times[start]
    sold = np.bincount(shop.items[: shop.offsets[start]], minlength=shop.n_items) > 0
    assert np.array_equal(arrays.popularity.score > 0, sold)


def test_a_damaged_active_release_is_told_and_keeps_nobody_from_measuring(
    twice: tuple[Outputs, Settings],
) -> None:
    out, settings = twice
    repository, shop = open_repository(out.repository), load_shop(out.data)
    graph = Path(str(out.repository), "ncf_scorer", "1", "model.onnx")
    content = graph.read_bytes()
    graph.write_bytes(content[:-1])
    try:
        compared = compare(
            repository,
            shop,
            split_by_time(shop, settings.splits),
            candidate_of(out, settings),
            settings,
            read_contract(),
            ThisProcess(),
        )
    finally:
        graph.write_bytes(content)
    assert compared is not None
    assert compared.n == 0
    assert compared.problem is not None
    assert "model.onnx is not what the manifest lists" in compared.problem


def test_another_active_release_makes_no_stage_run_again(twice: tuple[Outputs, Settings]) -> None:
    """The second release becomes active, and is not compared with itself."""
    out, settings = twice
    assert build(settings, out.root) == 2
    against = Comparison.model_validate(json.loads(out.metrics.read_text())["against"])
    assert against.release == 1


def test_a_replay_keeps_each_day_and_goes_on(twice: tuple[Outputs, Settings], tmp_path: Path) -> None:
    """Two weekly releases answer a week each; a day that is missing is answered again, alike."""
    out, settings = twice
    replay = Replay.of(out.data, tmp_path, settings, (2, 0, 0))
    replay.run([FROZEN, WEEKLY], until=14)
    figures = collect(replay, until=14, redrawn=1)
    frozen, weekly = (figures["schedules"][name] for name in (FROZEN, WEEKLY))
    assert (frozen["trainings"], weekly["trainings"]) == (1, 2)
    assert frozen["weeks"][1]["all"] == weekly["weeks"][1]["all"]  # one release answers for both
    assert frozen["weeks"][2]["all"]["n"] == weekly["weeks"][2]["all"]["n"] > 20
    assert frozen["chosen"]["difference"]["ndcg_at_10"] == pytest.approx(
        frozen["chosen"]["all"]["ndcg_at_10"] - weekly["chosen"]["all"]["ndcg_at_10"], abs=2e-4
    )
    trial = replay.kept(7).folder / "trials"
    pair, receipts = read_case(trial, HEALTHY)
    assert len(pair.active) == len(pair.candidate) == len(pair.owners) > 20
    assert receipts.shared is not None
    assert receipts.shared.then == receipts.shared.now
    broken, _ = read_case(trial, SHUFFLED_MODEL)
    assert (broken.candidate < TOP).mean() < 0.5 * (pair.candidate < TOP).mean()

    day = replay.kept(7).folder / "day-012.npy"
    before = day.read_bytes()
    day.unlink()
    replay.run([WEEKLY], until=14, trials=False)
    assert day.read_bytes() == before
