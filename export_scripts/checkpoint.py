"""The checkpoint: the scorer's weights, the sampler's prior, and what both were made from.

Rows mean nothing without the tables that numbered them, and a test period is unseen only by the splits it was
trained with. So a checkpoint is used with the data and the settings that it was made from, or refused.
"""

import io
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from ensemble.candidate_sampler.features import FEATURES
from export_scripts.atomic import write_file
from export_scripts.errors import CestaError
from export_scripts.ncf import NCF, NCFShape
from export_scripts.settings import Settings
from export_scripts.shop import Shop

DECIDED_BY: Final = {"splits", "sampler", "retrieval", "train"}  # the tables of pipeline.toml
WAY_OUT: Final = 'run "cesta train" again'


def save_checkpoint(
    path: Path, model: NCF, prior: NDArray[np.float32], shop: Shop, settings: Settings
) -> None:
    """Write plain tensors, strings and numbers: loading needs no unpickling of code."""
    content = io.BytesIO()  # torch writing to the disk itself would turn a full one into a RuntimeError
    state = {"shape": asdict(model.shape), "state": model.state_dict(), "prior": torch.from_numpy(prior)}
    torch.save({"made_from": _made_from(shop, settings)} | state, content)
    write_file(path, content.getvalue())


def load_checkpoint(path: Path, shop: Shop, settings: Settings) -> tuple[NCF, NDArray[np.float32]]:
    """The model, in evaluation mode, and the prior (F,).

    Raises CestaError if there is none, if it is damaged, or if it was made from something else.
    """
    if not path.exists():
        raise CestaError(f'no checkpoint {path}; run "cesta train" first')
    content = io.BytesIO(path.read_bytes())
    try:
        saved = torch.load(content, weights_only=True)
        _refuse_others(path, saved["made_from"], _made_from(shop, settings))
        shape = NCFShape(**{**saved["shape"], "hidden": tuple(saved["shape"]["hidden"])})
        model = NCF(shape, saved["state"]["id_rows"], saved["state"]["content"])
        model.load_state_dict(saved["state"])
        return model.eval(), saved["prior"].numpy()
    except CestaError:
        raise
    except Exception as error:  # torch has no error class of its own for damage: even OSError occurs
        reason = type(error).__name__
        raise CestaError(
            f"{path} is damaged or was written by another version of cesta ({reason}); {WAY_OUT}"
        ) from None


def _made_from(shop: Shop, settings: Settings) -> dict[str, Any]:
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
