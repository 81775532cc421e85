"""Scores every recommendable item for every request, as a web app over an NCF checkpoint does.

NCF is neural collaborative filtering, the scorer's network. It reads 28 features, so each item needs them.
They come from the release's own compiled kernels, with limits so wide that no item is left out. A web app
would hardly do better, and numpy would be slower.
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
from export_scripts.scorer.explore import add_explore
from export_scripts.scorer.ncf import NCF, NCFShape

ANSWERS: Final = 20
BEYOND: Final = 1_024  # room for a user's purchases and for items that are no longer recommended


class TorchScorer:
    """Scores with the trained network itself, before the export folds it."""

    def __init__(self, checkpoint: Path, item_ids: list[str]) -> None:
        torch.set_num_threads(1)  # there is a worker per core
        self._model = load_network(checkpoint)
        self._ids = np.array(item_ids, np.object_)

    @torch.inference_mode()
    def score(self, queries: Sequence[Query], candidates: Candidates) -> Answers:
        """The best candidates of one query."""
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
    """The sampler, widened to the whole catalog, and torch or the widened released graph as scorer."""

    def __init__(self, run: Path, checkpoint: Path | None = None) -> None:
        """Torch scores if there is a `checkpoint`, otherwise ONNX Runtime."""
        arrays, limits = load_arrays(run / "arrays"), load_limits(run / "arrays")
        pool, items = len(arrays.popularity.order), len(arrays.popularity.score)
        capacity = min(pool + BEYOND, items - 1)
        wide = limits | {"capacity": capacity, "fill": pool, "width": items}
        self._sampler = CandidateSampler(arrays, wide, Nearest.load(run / "arrays", arrays, limits))
        self._scorer: TorchScorer | Reference
        if checkpoint:
            self._scorer = TorchScorer(checkpoint, [item.decode() for item in arrays.item_ids.unpack()])
        else:
            self._scorer = Reference(self._sampler, widen(onnx.load(str(run / "model.onnx")), capacity))
        self._vocabulary = self._sampler.vocabulary()
        self._answer(Query())

    def recommend(self, questions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Answer the questions one by one: a batch would not fit into the processor's caches."""
        answers = []
        for question in questions:
            basket = [item.encode() for item in question.get("basket", ())]
            query = self._vocabulary.query(basket=basket, user_id=question.get("user_id", "").encode())
            answer = self._answer(query)
            answers.append(
                {
                    "item_ids": answer.item_ids[0].tolist(),
                    "scores": answer.scores[0].tolist(),
                    "reasons": answer.reasons[0].tolist(),
                }
            )
        return answers

    def _answer(self, query: Query) -> Answers:
        return self._scorer.score([query], self._sampler.sample([query]))


def load_network(checkpoint: Path) -> NCF:
    """The network that `cesta train` or `save_network` wrote, with the explore of validation."""
    saved = torch.load(checkpoint, weights_only=True)
    network = NCF(NCFShape(**{**saved["shape"], "hidden": tuple(saved["shape"]["hidden"])}))
    network.load_state_dict(saved["state"])
    add_explore(network, saved.get("explore", 0.0))  # a saved network has it already
    return network.eval()


def save_network(network: NCF, checkpoint: Path) -> None:
    """Save the part of a checkpoint that a web app reads, without the record of its training."""
    torch.save({"shape": asdict(network.shape), "state": network.state_dict()}, checkpoint)


def widen(model: onnx.ModelProto, wider: int) -> bytes:
    """The released graph for `wider` candidates: only the input sizes and the split of `rows` change."""
    (split,) = (node for node in model.graph.node if node.op_type == "Split")
    (sizes,) = (tensor for tensor in model.graph.initializer if tensor.name == split.input[1])
    user, basket, *_ = numpy_helper.to_array(sizes).tolist()
    parts = np.array([user, basket, wider, wider], np.int64)
    sizes.CopyFrom(numpy_helper.from_array(parts, sizes.name))
    widths = {"rows": int(parts.sum()), "candidate_features": wider}
    for tensor in model.graph.input:
        tensor.type.tensor_type.shape.dim[1].dim_value = widths[tensor.name]
    serialized: bytes = model.SerializeToString()
    return serialized
