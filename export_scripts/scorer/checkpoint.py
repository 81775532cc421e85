"""The checkpoint: the scorer's weights, the sampler's prior, and what both were made from.

Rows mean nothing without the tables that numbered them, and a test period is unseen only by the splits it was
trained with. So a checkpoint is used with the data and the settings that it was made from, or refused.
"""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from ensemble.candidate_sampler.features import FEATURES
from export_scripts.receipts.shop import Shop
from export_scripts.scorer.ncf import NCF, NCFShape
from export_scripts.settings import Settings
from operations.errors import CestaError
from operations.records.atomic import write_file

DECIDED_BY: Final = {"splits", "sampler", "retrieval", "train"}  # the tables of pipeline.toml
WAY_OUT: Final = 'run "cesta train" again'


@dataclass(frozen=True)
class Curve:
    """How training went on the validation queries, and which epoch's weights the checkpoint holds."""

    epochs: list[dict[str, float]]  # epoch (0: before training), loss, hr_at_10, ndcg_at_10
    kept: int


UNTRAINED: Final = Curve([], 0)


def save_checkpoint(
    path: Path,
    model: NCF,
    prior: NDArray[np.float32],
    shop: Shop,
    settings: Settings,
    curve: Curve = UNTRAINED,
) -> None:
    """Write plain tensors, strings and numbers: loading needs no unpickling of code."""
    content = io.BytesIO()  # torch writing to the disk itself would turn a full one into a RuntimeError
    state = {"shape": asdict(model.shape), "state": model.state_dict(), "prior": torch.from_numpy(prior)}
    # As text: pickle writes equal strings twice unless they are one object, and the bytes must repeat.
    state["curve"] = json.dumps(asdict(curve))
    torch.save({"made_from": made_from(shop, settings)} | state, content)
    write_file(path, content.getvalue())


def load_checkpoint(path: Path, shop: Shop, settings: Settings) -> tuple[NCF, NDArray[np.float32]]:
    """The model, in evaluation mode, and the prior (F,).

    Raises CestaError if there is none, if it is damaged, or if it was made from something else.
    """
    with _opened(path) as saved:
        _refuse_others(path, saved["made_from"], made_from(shop, settings))
        shape = NCFShape(**{**saved["shape"], "hidden": tuple(saved["shape"]["hidden"])})
        model = NCF(shape)
        model.load_state_dict(saved["state"])
        return model.eval(), saved["prior"].numpy()


def load_curve(path: Path) -> Curve:
    """How the checkpoint's training went; no epochs where there was nothing to train on.

    Raises CestaError if there is no checkpoint, or if it is damaged.
    """
    with _opened(path) as saved:
        return Curve(**json.loads(saved["curve"]))


@contextmanager
def _opened(path: Path) -> Iterator[dict[str, Any]]:
    """The checkpoint's content; whatever goes wrong with it inside the block is one sentence."""
    if not path.exists():
        raise CestaError(f'no checkpoint {path}; run "cesta train" first')
    content = io.BytesIO(path.read_bytes())
    try:
        yield torch.load(content, weights_only=True)
    except CestaError:
        raise
    except Exception as error:  # torch has no error class of its own for damage: even OSError occurs
        reason = type(error).__name__
        raise CestaError(
            f"{path} is damaged or was written by another version of cesta ({reason}); {WAY_OUT}"
        ) from None


def made_from(shop: Shop, settings: Settings) -> dict[str, Any]:
    """The data, the features and every setting that decide what a training gives."""
    chosen = settings.model_dump(mode="json", include=DECIDED_BY)
    return {"data": shop.fingerprint, "features": list(FEATURES)} | {
        f"{table}.{key}": value for table, values in chosen.items() for key, value in values.items()
    }


def _refuse_others(path: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    if then["data"] != now["data"]:
        raise CestaError(
            f"{path} was trained on other data ({then['data'][:12]}…, now {now['data'][:12]}…); {WAY_OUT}"
        )
    if then["features"] != now["features"]:
        raise CestaError(f"{path} was trained on other features than features.py now names; {WAY_OUT}")
    if changed := [key for key in now if then.get(key) != now[key]]:
        listed = ", ".join(f"{key} = {then.get(key)} (now {now[key]})" for key in changed)
        raise CestaError(f"{path} was trained with {listed}; give these settings here too, or {WAY_OUT}")
