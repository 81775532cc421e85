"""Queries to the recommender, and each protocol that carries them; short rows are padded with empty ids."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.request import urlopen

import numpy as np
import tritonclient.grpc
import tritonclient.http

from ensemble.candidate_sampler.query import Query, Vocabulary
from tests.running.live import MODEL, Live


@dataclass(frozen=True)
class Question:
    """Ids as a shop sends them."""

    basket: tuple[str, ...] = ()
    user_id: str = ""
    exclude: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()

    def query(self, vocabulary: Vocabulary) -> Query:
        lists = ([value.encode() for value in ids] for ids in (self.basket, self.exclude, self.categories))
        basket, exclude, categories = lists
        return vocabulary.query(basket, self.user_id.encode(), exclude, categories)


@dataclass(frozen=True)
class Reply:
    """(batch, K) item ids, scores and reasons, and the version that answered."""

    version: str
    item_ids: np.ndarray[Any, Any]  # of str
    scores: np.ndarray[Any, Any]
    reasons: np.ndarray[Any, Any]


Wire = Callable[[Live, Sequence[Question]], Reply]


def over_http(live: Live, questions: Sequence[Question]) -> Reply:
    """Send V2 with binary tensors."""
    with tritonclient.http.InferenceServerClient(live.http) as client:
        result = client.infer(MODEL, _inputs(tritonclient.http, questions))
        return _reply(result.get_response()["model_version"], result.as_numpy)


def over_grpc(live: Live, questions: Sequence[Question]) -> Reply:
    with tritonclient.grpc.InferenceServerClient(live.grpc) as client:
        result = client.infer(MODEL, _inputs(tritonclient.grpc, questions))
        return _reply(result.get_response().model_version, result.as_numpy)


def over_json(live: Live, questions: Sequence[Question]) -> Reply:
    """Send V2 with everything in JSON."""
    inputs = [
        {"name": name, "shape": array.shape, "datatype": "BYTES", "data": [v.decode() for v in array.ravel()]}
        for name, array in tensors(questions).items()
    ]
    answer = post(live, "infer", {"inputs": inputs})
    outputs = {
        output["name"]: np.array(output["data"]).reshape(output["shape"]) for output in answer["outputs"]
    }
    return _reply(answer["model_version"], outputs.__getitem__)


def over_generate(live: Live, questions: Sequence[Question]) -> Reply:
    """Send Triton's plain JSON: one query, no tensors."""
    (question,) = questions
    answer = post(live, "generate", {name: value for name, value in vars(question).items() if value != ""})
    return _reply(answer["model_version"], lambda name: np.array([answer[name]]))


def post(live: Live, verb: str, body: object) -> Any:
    url = f"http://{live.http}/v2/models/{MODEL}/{verb}"
    with urlopen(url, json.dumps(body).encode(), timeout=30) as answer:
        return json.loads(answer.read())


def tensors(questions: Sequence[Question]) -> dict[str, np.ndarray[Any, Any]]:
    """(batch, n) UTF-8 bytes for each input."""
    columns = {name: [getattr(q, name) for q in questions] for name in ("basket", "exclude", "categories")}
    columns["user_id"] = [(q.user_id,) for q in questions]
    return {name: _padded(rows) for name, rows in columns.items()}


def _padded(rows: Sequence[Sequence[str]]) -> np.ndarray[Any, Any]:
    padded = np.full((len(rows), max(map(len, rows))), b"", object)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = [value.encode() for value in ids]
    return padded


def _inputs(client: Any, questions: Sequence[Question]) -> list[Any]:
    inputs = []
    for name, array in tensors(questions).items():
        inputs.append(client.InferInput(name, array.shape, "BYTES"))
        inputs[-1].set_data_from_numpy(array)
    return inputs


def _reply(version: str, tensor: Callable[[str], Any]) -> Reply:
    ids = tensor("item_ids")
    texts = [value if isinstance(value, str) else value.decode() for value in ids.ravel()]
    scores, reasons = np.asarray(tensor("scores"), np.float32), np.asarray(tensor("reasons"), np.int32)
    return Reply(version, np.array(texts, object).reshape(ids.shape), scores, reasons)
