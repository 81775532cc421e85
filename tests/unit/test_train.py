"""Fitting the scorer, and the checkpoint that stores it."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.features import FEATURES
from export_scripts.etl import etl
from export_scripts.receipts.shop import Shop, load_shop
from export_scripts.scorer.checkpoint import (
    FittedScorer,
    load_checkpoint,
    load_chosen_explore,
    save_checkpoint,
)
from export_scripts.scorer.explore import add_explore
from export_scripts.scorer.fitting import choose_explore, fit, new_model
from export_scripts.scorer.ncf import NCF
from export_scripts.scorer.training_set import TrainingSet
from export_scripts.settings import Settings, TrainSettings, load_settings
from export_scripts.snapshots import counts
from export_scripts.snapshots.retrieval.tower import TrainedTower
from export_scripts.snapshots.retrieval.training import new_tower
from export_scripts.snapshots.snapshot import snapshot
from export_scripts.train import check_support
from operations.errors import CestaError
from tests.building.shops import make_shop

F, C = len(FEATURES), 5
NEW = FEATURES.index("new_to_user")
PRIOR = np.linspace(-1, 1, F, dtype=np.float32)
CHOSEN = 0.5  # by validation, in the checkpoint


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    tables = make_shop(tmp_path_factory.mktemp("shop"), np.random.default_rng(1), baskets=150)
    return load_settings(overrides=tables.overrides() | {"retrieval.epochs": 1, "retrieval.dimensions": 4})


@pytest.fixture(scope="module")
def shop(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return load_shop(etl(settings, tmp_path_factory.mktemp("out")))


@pytest.fixture(scope="module")
def arrays(shop: Shop, settings: Settings) -> SamplerArrays:
    return snapshot(shop, shop.n_baskets, settings)


def examples(n: int, *, telling: int | None, seed: int = 0) -> TrainingSet:
    """Random candidates and features; feature `telling`, if any, is 3 for the hidden item, else 0."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, C, F)).astype(np.float16)
    target = rng.integers(0, C, n)
    if telling is not None:
        features[:, :, telling] = 0
        features[np.arange(n), target, telling] = 3
    rows = np.array([rng.permutation(59)[:C] + 1 for _ in range(n)], np.int32).reshape(n, C)
    none = np.zeros((n, C), np.float32)
    return TrainingSet(np.zeros(n, np.int32), np.zeros((n, 3), np.int32), rows, features, none, target, n)


def fit_model(
    arrays: SamplerArrays,
    prior: np.ndarray,
    training: TrainingSet,
    validation: TrainingSet,
    settings: TrainSettings,
) -> NCF:
    return fit(new_model(arrays, training, prior, settings), training, validation, settings)[0]


def untrained(arrays: SamplerArrays, settings: Settings) -> NCF:
    return new_model(arrays, examples(9, telling=None), PRIOR, settings.train)


def wide_scores(model: NCF, training_set: TrainingSet) -> np.ndarray:
    with torch.no_grad():
        scores = model(
            *(torch.from_numpy(a) for a in (training_set.users, training_set.baskets, training_set.rows)),
            features(training_set),
        )
    return scores.numpy()


def features(training_set: TrainingSet) -> torch.Tensor:
    return torch.from_numpy(training_set.features).float()


def is_linear(model: NCF, training_set: TrainingSet) -> bool:
    """Whether scores are PRIOR · features, up to a constant per query."""
    apart = wide_scores(model, training_set) - (features(training_set) @ torch.from_numpy(PRIOR)).numpy()
    return bool(np.allclose(apart, apart.mean(1, keepdims=True), atol=1e-3))


def test_a_telling_feature_is_learnt(arrays: SamplerArrays, settings: Settings) -> None:
    """The weight of the feature starts at 0; a few hundred queries are enough to rank by it."""
    quick = settings.model_copy(update={"train": settings.train.model_copy(update={"learning_rate": 0.03})})
    training, validation = examples(2_000, telling=1), examples(200, telling=1, seed=1)
    model = fit_model(arrays, np.zeros(F, np.float32), training, validation, quick.train)
    assert (wide_scores(model, validation).argmax(1) == validation.target).mean() > 0.95


@pytest.mark.parametrize(("n_training", "n_validation"), [(0, 0), (0, 50), (50, 0)])
def test_without_queries_the_blend_is_kept(
    arrays: SamplerArrays, settings: Settings, n_training: int, n_validation: int
) -> None:
    """A shop too small for a training or a validation period gets the linear score, without NaN."""
    training, validation = examples(n_training, telling=None), examples(n_validation, telling=None)
    assert is_linear(
        fit_model(arrays, PRIOR, training, validation, settings.train), examples(20, telling=None)
    )


def test_training_that_only_harms_is_undone(arrays: SamplerArrays, settings: Settings) -> None:
    """Training queries say the opposite of what validation wants: the start stays."""
    validation = examples(200, telling=1)
    training = examples(2_000, telling=1, seed=1)
    training.features[:, :, 1] *= -1
    prior = np.zeros(F, np.float32)
    prior[1] = 1.0
    model = fit_model(arrays, prior, training, validation, settings.train)
    assert (wide_scores(model, validation).argmax(1) == validation.target).all()


def test_a_feature_that_hardly_varies_is_not_blown_up(arrays: SamplerArrays, settings: Settings) -> None:
    """One candidate in ten thousand differs by a rounding step. Divided by that, noise would dominate."""
    training = examples(2_000, telling=None)
    training.features[:, :, 2] = 5
    training.features[0, 0, 2] = 5.004
    model = fit_model(arrays, PRIOR, training, examples(20, telling=None), settings.train)
    assert model.feature_std[2] == 1
    assert model.feature_std[3] == pytest.approx(1, abs=0.05)
    assert model.feature_std[3] != 1


def test_the_same_seed_gives_the_same_weights(arrays: SamplerArrays, settings: Settings) -> None:
    """They agree to the last digit, because a release's digest depends on them."""
    states = []
    for _ in range(2):
        model = fit_model(arrays, PRIOR, examples(500, telling=1), examples(50, telling=1), settings.train)
        content = io.BytesIO()
        torch.save(model.state_dict(), content)
        states.append(content.getvalue())
    assert states[0] == states[1]


def test_the_towers_vectors_stay_as_they_are(arrays: SamplerArrays, settings: Settings) -> None:
    """They are pre-trained; training further would memorise the training period."""
    model = fit_model(arrays, PRIOR, examples(500, telling=1), examples(50, telling=1), settings.train)
    for table, vectors in zip(
        (model.user_mlp, model.basket_mlp, model.item_mlp), arrays.retrieval, strict=True
    ):
        np.testing.assert_array_equal(table.weight.numpy(), vectors)
    assert model.from_item.weight.any(), "but they are read"


def ten_and_a_new_one(arrays: SamplerArrays, settings: Settings, wanted: int) -> tuple[NCF, TrainingSet]:
    """Ten items of score 0 to 0.09 and a new one of -0.55, which ``wanted`` of five queries want. The others
    want the ninth best of the ten.
    """
    queries = examples(200, telling=None)
    rows = np.tile(np.arange(1, 12, dtype=np.int32), (200, 1))
    features = np.zeros((200, 11, F), np.float16)
    features[:, 10, NEW] = 1
    target = np.where(np.arange(200) % 5 < wanted, 10, 1)
    queries = replace(
        queries, rows=rows, features=features, log_weights=np.zeros(rows.shape, np.float32), target=target
    )
    model = new_model(arrays, queries, np.zeros(F, np.float32), settings.train)
    with torch.no_grad():
        model.item_bias.weight[1:12, 0] = torch.tensor([*np.arange(10) / 100, -0.55])
    return model, queries


@pytest.mark.parametrize("price", [0.0, 0.5])
def test_new_items_rise_as_far_as_they_may(arrays: SamplerArrays, settings: Settings, price: float) -> None:
    """First place is best for NDCG; with half of it as the price, the step that finds the item is enough."""
    model, queries = ten_and_a_new_one(arrays, settings, wanted=2)
    before = wide_scores(model, queries)
    added = choose_explore(model, queries, price)
    add_explore(model, added)
    rise = wide_scores(model, queries) - before
    np.testing.assert_allclose(rise[:, 10] - rise[:, 0], added, atol=1e-5)
    np.testing.assert_allclose(rise[:, :10], np.repeat(rise[:, :1], 10, 1), atol=1e-5)
    assert added == pytest.approx(0.7 if price == 0 else 0.6)


def test_nothing_is_paid_for_new_items_that_nobody_wants(arrays: SamplerArrays, settings: Settings) -> None:
    """Raising them would be within the price, but would find nothing."""
    model, queries = ten_and_a_new_one(arrays, settings, wanted=0)
    assert choose_explore(model, queries, 0.99) == 0.0


def test_items_nobody_buys_are_said_at_once(shop: Shop, settings: Settings) -> None:
    """No item reaches the support: one sentence has the numbers and the way out."""
    high = settings.model_copy(
        update={"sampler": settings.sampler.model_copy(update={"min_support": 10_000})}
    )
    with pytest.raises(
        CestaError, match=r"no item is in 10000 baskets .* of 150: .* lower sampler.min_support"
    ):
        check_support(shop, high)
    check_support(shop, settings)


def tower_for(shop: Shop, settings: Settings) -> TrainedTower:
    return new_tower(shop, counts.categories(shop, 1)[0].of_item, settings)


@pytest.fixture
def checkpoint(shop: Shop, settings: Settings, arrays: SamplerArrays, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "new" / "checkpoint.pt"
    save_checkpoint(
        path,
        FittedScorer(
            new_model(arrays, examples(9, telling=None), PRIOR, settings.train), PRIOR, explore=CHOSEN
        ),
        shop,
        settings,
        tower_for(shop, settings),
    )
    return path


def test_a_checkpoint_comes_back(
    checkpoint: Path, shop: Shop, settings: Settings, arrays: SamplerArrays
) -> None:
    """It has weights, shape and prior; no other file is left beside it."""
    model, prior = load_checkpoint(checkpoint, shop, settings)
    torch.manual_seed(0)
    expected = untrained(arrays, settings)
    add_explore(expected, CHOSEN)
    assert model.shape == expected.shape
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))
    np.testing.assert_array_equal(prior, PRIOR)
    assert not model.training
    assert [path.name for path in checkpoint.parent.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "other"])
def test_a_damaged_checkpoint_is_one_sentence(
    checkpoint: Path, shop: Shop, settings: Settings, damage: str
) -> None:
    """The file is cut off, not torch's at all, or torch's and not ours."""
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(
        {"truncated": content[: len(content) // 2], "garbage": b"PK\3\4 no"}.get(damage, b"")
    )
    if damage == "other":
        torch.save({"weights": torch.zeros(3)}, checkpoint)
    with pytest.raises(CestaError, match=r'checkpoint.pt is damaged .* run "cesta train" again'):
        load_checkpoint(checkpoint, shop, settings)


def test_a_missing_checkpoint_names_the_command(shop: Shop, settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(CestaError, match=r'no checkpoint .*run "cesta train" first'):
        load_checkpoint(tmp_path / "checkpoint.pt", shop, settings)


def test_a_checkpoint_of_other_data_is_refused(checkpoint: Path, settings: Settings, tmp_path: Path) -> None:
    """Rows of another catalog would be scored with this one's weights."""
    tables = make_shop(tmp_path / "other", np.random.default_rng(2), items=40, baskets=100)
    other = load_shop(etl(load_settings(overrides=tables.overrides()), tmp_path / "out"))
    with pytest.raises(CestaError, match="was trained on other data"):
        load_checkpoint(checkpoint, other, settings)


def test_a_checkpoint_of_other_settings_is_refused(checkpoint: Path, shop: Shop, settings: Settings) -> None:
    """With other splits, test baskets may have been trained on."""
    splits = settings.splits.model_copy(update={"test_days": 7.0})
    with pytest.raises(CestaError, match=r"trained with splits.test_days = 28.0 \(now 7.0\); use the same"):
        load_checkpoint(checkpoint, shop, settings.model_copy(update={"splits": splits}))


def test_how_it_is_measured_does_not_bind_a_checkpoint(
    checkpoint: Path, shop: Shop, settings: Settings
) -> None:
    """[evaluate] may change without training again."""
    more = settings.evaluate.model_copy(update={"queries": 7})
    load_checkpoint(checkpoint, shop, settings.model_copy(update={"evaluate": more}))


@pytest.mark.parametrize(("explore", "added"), [("auto", CHOSEN), (-2.0, -2.0), (0.0, 0.0)])
def test_the_shop_or_validation_chooses_how_far_to_explore(
    checkpoint: Path,
    shop: Shop,
    settings: Settings,
    arrays: SamplerArrays,
    explore: float | str,
    added: float,
) -> None:
    """The same weights serve all values: a new item moves by the value, and the others stay."""
    chosen = settings.ranking.model_copy(update={"explore": explore})
    model, _ = load_checkpoint(checkpoint, shop, settings.model_copy(update={"ranking": chosen}))
    torch.manual_seed(0)
    plain, queries = untrained(arrays, settings), examples(5, telling=None)
    queries.features[:, :, NEW] = [0, 1, 0, 1, 1]
    moved = wide_scores(model, queries) - wide_scores(plain, queries)
    np.testing.assert_allclose(moved - moved[:, :1], np.tile([0, added, 0, added, added], (5, 1)), atol=1e-4)
    assert load_chosen_explore(checkpoint) == CHOSEN


def test_a_full_disk_leaves_the_old_checkpoint(
    checkpoint: Path, shop: Shop, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOSPC arrives as an OSError, and the old file is still whole."""
    before = checkpoint.read_bytes()
    model, prior = load_checkpoint(checkpoint, shop, settings)

    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("operations.records.atomic.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(checkpoint, FittedScorer(model, prior), shop, settings, tower_for(shop, settings))
    assert checkpoint.read_bytes() == before
    assert not list(checkpoint.parent.glob(".*partial*"))
