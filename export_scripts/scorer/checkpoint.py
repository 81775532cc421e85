"""The checkpoint: scorer, sampler's prior and retrieval tower, and the data and settings they were made from.

A row number means nothing without the tables that assigned it, and the test period is unseen only under the
splits of the training. So a checkpoint is refused with any other data or settings than its own.
"""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ensemble.candidate_sampler.features import FEATURES
from export_scripts.receipts.shop import DAY_S, Shop
from export_scripts.scorer.explore import add_explore, explore_of
from export_scripts.scorer.ncf import NCF, NCFShape
from export_scripts.settings import Settings
from export_scripts.snapshots.retrieval.renumbering import Numbering
from export_scripts.snapshots.retrieval.tower import TrainedTower
from operations.errors import CestaError
from operations.records.atomic import write_file

DECISIVE_TABLES: Final = {"splits", "sampler", "stores", "retrieval", "train"}  # of pipeline.toml
WHERE_TO_START: Final = "retrieval.warm_starts"  # a checkpoint says itself where its training started
OF_TOWER: Final = ("retrieval.", "sampler.min_support", "train.seed", "train.users")  # beginnings of names
WAY_OUT: Final = 'run "cesta train" again'


@dataclass(frozen=True)
class Curve:
    """The metrics of every epoch on the validation queries, and the epoch that the checkpoint holds."""

    epochs: list[dict[str, float]]  # epoch (0: before training), loss, hr_at_10, ndcg_at_10
    kept: int  # the checkpoint's epoch; the name is a key of the file


UNTRAINED: Final = Curve([], 0)


class FittedScorer(NamedTuple):
    """A scorer as it was trained, the sampler's prior (F,), and what validation says about both."""

    model: NCF
    prior: NDArray[np.float32]
    curve: Curve = UNTRAINED
    explore: float = 0.0  # log odds to add to items new to the user; not added to the ``model``


@dataclass(frozen=True)
class EarlierTower:
    """The tower of a checkpoint, and what a later training must know to go on with it."""

    tower: TrainedTower
    numbering: Numbering
    last_time: int  # of the baskets that the tower has seen
    is_timed: bool  # false if times are the baskets' numbers
    settings: dict[str, Any]  # that decided the tower
    warm: int  # trainings in a row that went on with an earlier tower, up to this one


def save_checkpoint(
    path: Path,
    fitted: FittedScorer,
    shop: Shop,
    settings: Settings,
    tower: TrainedTower,
    warm: int = 0,
) -> None:
    """Write the checkpoint as plain tensors, strings and numbers, so that loading runs no pickled code.

    ``warm`` counts the trainings in a row that went on with an earlier tower.
    """
    content = io.BytesIO()  # if torch wrote the file, a full disk would raise RuntimeError, not OSError
    model, prior, curve, explore = fitted
    state = {"shape": asdict(model.shape), "state": model.state_dict(), "prior": torch.from_numpy(prior)}
    state["explore"] = explore
    # JSON text, because pickle writes equal strings once or twice, depending on whether they are one object.
    state["curve"] = json.dumps(asdict(curve))
    state["numbering"] = Numbering.of(shop).to_json()
    state["seen"] = {
        "last_time": int(shop.times[tower.end - 1]) if tower.end else int(shop.times[0]) - 1,
        "is_timed": shop.day == DAY_S,
        "warm": warm,
    }
    torch.save({"made_from": made_from(shop, settings)} | state | {"tower": tower.state}, content)
    write_file(path, content.getvalue())


def load_checkpoint(path: Path, shop: Shop, settings: Settings) -> tuple[NCF, NDArray[np.float32]]:
    """Load the model, in evaluation mode and with ``ranking.explore`` added, and the prior (F,).

    Raises CestaError if the checkpoint is missing, damaged, or made from other data or settings.
    """
    with _read_checkpoint(path) as saved:
        _check_made_from(path, saved["made_from"], made_from(shop, settings))
        shape = NCFShape(**{**saved["shape"], "hidden": tuple(saved["shape"]["hidden"])})
        model = NCF(shape)
        model.load_state_dict(saved["state"])
        add_explore(model, explore_of(settings.ranking.explore, saved["explore"]))
        return model.eval(), saved["prior"].numpy()


def load_tower(path: Path) -> TrainedTower:
    """Load the retrieval tower of the training, to be trained on to a later moment.

    Raises CestaError if the checkpoint is missing or damaged.
    """
    with _read_checkpoint(path) as saved:
        return TrainedTower.load(saved["tower"])


def load_earlier_tower(path: Path) -> EarlierTower:
    """Load the tower for a training on later receipts.

    Raises CestaError if the checkpoint is missing or damaged.
    """
    with _read_checkpoint(path) as saved:
        return EarlierTower(
            TrainedTower.load(saved["tower"]),
            Numbering.from_json(saved["numbering"]),
            settings=_of_tower(saved["made_from"]),
            **saved["seen"],
        )


def load_curve(path: Path) -> Curve:
    """Load the training's curve, which has no epochs if there was nothing to train on.

    Raises CestaError if the checkpoint is missing or damaged.
    """
    with _read_checkpoint(path) as saved:
        return Curve(**json.loads(saved["curve"]))


def load_chosen_explore(path: Path) -> float:
    """Load the log odds that validation chose to add to items new to the user.

    Raises CestaError if the checkpoint is missing or damaged.
    """
    with _read_checkpoint(path) as saved:
        return float(saved["explore"])


@contextmanager
def _read_checkpoint(path: Path) -> Iterator[dict[str, Any]]:
    """Read the checkpoint, and turn every error inside the block into a CestaError."""
    if not path.exists():
        raise CestaError(f'no checkpoint {path}; run "cesta train" first')
    content = io.BytesIO(path.read_bytes())
    try:
        yield torch.load(content, weights_only=True)
    except CestaError:
        raise
    except Exception as error:  # torch raises many classes for damaged files, even OSError
        reason = type(error).__name__
        raise CestaError(
            f"{path} is damaged or was written by another version of cesta ({reason}); {WAY_OUT}"
        ) from None


def made_from(shop: Shop, settings: Settings) -> dict[str, Any]:
    """List the data, the features and all settings that decide the result of a training."""
    return {"data": shop.fingerprint, "features": list(FEATURES)} | _decisive(settings)


def settings_of_tower(settings: Settings) -> dict[str, Any]:
    """List the settings that decide the tower, by name."""
    return _of_tower(_decisive(settings))


def _decisive(settings: Settings) -> dict[str, Any]:
    chosen = settings.model_dump(mode="json", include=DECISIVE_TABLES)
    named = {f"{table}.{key}": value for table, values in chosen.items() for key, value in values.items()}
    del named[WHERE_TO_START]
    return named


def _of_tower(named: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in named.items() if name.startswith(OF_TOWER)}


def _check_made_from(path: Path, saved: dict[str, Any], current: dict[str, Any]) -> None:
    if saved["data"] != current["data"]:
        raise CestaError(
            f"{path} was trained on other data (then {saved['data'][:12]}…, now {current['data'][:12]}…); "
            f"{WAY_OUT}"
        )
    if saved["features"] != current["features"]:
        raise CestaError(f"{path} was trained on other features than features.py lists now; {WAY_OUT}")
    if changed := [key for key in current if saved.get(key) != current[key]]:
        listed = ", ".join(f"{key} = {saved.get(key)} (now {current[key]})" for key in changed)
        raise CestaError(f"{path} was trained with {listed}; use the same settings here, or {WAY_OUT}")
