"""Every recommendable item scored for every request: what a web app over an NCF checkpoint does.

The scorer reads 26 features, so they are made for every item too. They come from the release's own compiled
kernel, opened so wide that nothing is cut away: a web app would hardly do better, and numpy would be slower.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from ensemble.candidate_sampler.arrays import load_arrays, load_limits
from ensemble.candidate_sampler.batch import Candidates
from ensemble.candidate_sampler.nearest import Nearest
from ensemble.candidate_sampler.query import Query
from ensemble.candidate_sampler.sampler import CandidateSampler
from ensemble.reference import Answers, Reference
from export_scripts.scorer.ncf import NCF, NCFShape

ANSWERS: Final = 20
BEYOND: Final = 1_024  # room for what a user bought and what can no longer be recommended


class TorchScorer:
    """The trained network as it came out of training, before any folding."""

    def __init__(self, checkpoint: Path, item_ids: list[str]) -> None:
        torch.set_num_threads(1)  # a worker per core
        self._model = load_network(checkpoint)
        self._ids = np.array(item_ids, np.object_)

    @torch.inference_mode()
    def score(self, queries: Sequence[Query], candidates: Candidates) -> Answers:
        """The best of one query's candidates."""
        (query,) = queries
        rows = torch.from_numpy(candidates.rows)
        scores = self._model(
            torch.tensor([query.user_row]),
            torch.tensor([query.basket or [0]]),
            rows,
            torch.from_numpy(candidates.features),
        ).masked_fill(rows == 0, -1e9)
        best = scores.topk(ANSWERS)
        places = best.indices.numpy()
        return Answers(
            self._ids[np.take_along_axis(candidates.rows, places, 1)],
            best.values.numpy(),
            np.take_along_axis(candidates.sources, places, 1),
        )


class WholeCatalog:
    """Sampler opened to the whole catalog, then torch, or the released graph, whose inputs are widened."""

    def __init__(self, run: Path, checkpoint: Path | None = None) -> None:
        """With a `checkpoint` torch scores, else ONNX Runtime."""
        arrays, limits = load_arrays(run / "arrays"), load_limits(run / "arrays")
        pool, items = len(arrays.popularity.order), len(arrays.popularity.score)
        capacity = min(pool + BEYOND, items - 1)
        wide = limits | {"capacity": capacity, "fill": pool, "width": items}
        self._sampler = CandidateSampler(arrays, wide, Nearest.load(run / "arrays", arrays, limits))
        self._scorer: TorchScorer | Reference
        if checkpoint:
            self._scorer = TorchScorer(checkpoint, [item.decode() for item in arrays.item_ids.unpack()])
        else:
            self._scorer = Reference(self._sampler, widened(onnx.load(str(run / "model.onnx")), capacity))
        self._vocabulary = self._sampler.vocabulary()
        self._answer(Query())

    def recommend(self, questions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """One answer per question, one after the other: a batch of them would leave the caches."""
        found = []
        for question in questions:
            basket = [item.encode() for item in question.get("basket", ())]
            query = self._vocabulary.query(basket=basket, user_id=question.get("user_id", "").encode())
            answer = self._answer(query)
            found.append(
                {
                    "item_ids": answer.item_ids[0].tolist(),
                    "scores": answer.scores[0].tolist(),
                    "reasons": answer.reasons[0].tolist(),
                }
            )
        return found

    def _answer(self, query: Query) -> Answers:
        return self._scorer.score([query], self._sampler.sample([query]))


def load_network(checkpoint: Path) -> NCF:
    """The network that `cesta train` or `save_network` wrote, in evaluation mode."""
    saved = torch.load(checkpoint, weights_only=True)
    network = NCF(NCFShape(**{**saved["shape"], "hidden": tuple(saved["shape"]["hidden"])}))
    network.load_state_dict(saved["state"])
    return network.eval()


def save_network(network: NCF, checkpoint: Path) -> None:
    """As much of a checkpoint as a web app reads: no word of what it was trained on."""
    torch.save({"shape": asdict(network.shape), "state": network.state_dict()}, checkpoint)


def widened(model: onnx.ModelProto, wider: int) -> bytes:
    """The released graph for `wider` candidates: only its inputs' sizes change, and how `rows` is parted."""
    (split,) = (node for node in model.graph.node if node.op_type == "Split")
    (sizes,) = (tensor for tensor in model.graph.initializer if tensor.name == split.input[1])
    user, basket, *_ = numpy_helper.to_array(sizes).tolist()
    parts = np.array([user, basket, wider, wider], np.int64)
    sizes.CopyFrom(numpy_helper.from_array(parts, sizes.name))
    widths = {"rows": int(parts.sum()), "candidate_features": wider}
    for tensor in model.graph.input:
        tensor.type.tensor_type.shape.dim[1].dim_value = widths[tensor.name]
    return model.SerializeToString()
