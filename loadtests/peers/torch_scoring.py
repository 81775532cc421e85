"""A plain loop that scores every user and item by the same network in torch, as a data scientist writes it.

python -m loadtests.peers.torch_scoring artifacts 20 scores.npz 500

One user at a time, the whole catalog in one batch. The features are those of the product's sampler, which the
network was trained on; nothing else of the product takes part.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import load_arrays, load_limits
from ensemble.candidate_sampler.nearest import Nearest
from ensemble.candidate_sampler.query import Query
from export_scripts.receipts.shop import load_shop
from export_scripts.scorer.checkpoint import load_checkpoint
from export_scripts.scoring.catalog import WholeCatalogSampler
from export_scripts.settings import load_settings
from operations.outputs import Outputs


def score_all(out: Outputs, k: int, most: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Rows and scores (users, k) of the first ``most`` users, best first."""
    shop = load_shop(out.data)
    model, _ = load_checkpoint(out.checkpoint, shop, load_settings())
    arrays = load_arrays(out.run / "arrays")
    limits = load_limits(out.run / "arrays")
    nearest = Nearest.load(out.run / "arrays", arrays, limits)
    sampler = WholeCatalogSampler(arrays, limits, nearest, multiple=1)
    rows, scores = [], []
    for user in range(1, min(shop.n_users, most + 1)):
        found = sampler.sample([Query(user_row=user)])
        with torch.inference_mode():
            scored = model(
                torch.tensor([user]),
                torch.zeros((1, 1), dtype=torch.int32),
                torch.from_numpy(found.rows),
                torch.from_numpy(found.features),
            )
            best = torch.topk(torch.where(torch.from_numpy(found.rows) > 0, scored, -torch.inf), k)
        rows.append(found.rows[0, best.indices[0].numpy()])
        scores.append(best.values[0].numpy())
    return np.array(rows, np.int32), np.array(scores, np.float32)


def main() -> None:
    """Score, and keep the result as arrays."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("k", type=int)
    parser.add_argument("result", type=Path)
    parser.add_argument("users", type=int)
    options = parser.parse_args()
    rows, scores = score_all(Outputs(options.out), options.k, options.users)
    np.savez(options.result, rows=rows, scores=scores)


if __name__ == "__main__":
    main()
