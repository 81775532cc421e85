"""How a question travels: its raw HTTP request, and the answer read back, for every server's own form."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.http import InferenceServerClient, InferInput

from loadtests.questions import Question

Headers = Mapping[str, str]  # names in lower case


@dataclass(frozen=True)
class Answer:
    """Item ids and scores, best first, padding left out."""

    item_ids: list[str]
    scores: list[float]


@dataclass(frozen=True)
class Wire:
    """`encode` gives a request's body and further headers, `decode` reads body and headers of an answer."""

    name: str
    path: str
    encode: Callable[[Question], tuple[bytes, dict[str, str]]]
    decode: Callable[[bytes, Headers], Answer]

    def request(self, question: Question, key: str = "") -> bytes:
        """The whole HTTP/1.1 request; with a Bearer `key` as a gateway wants it."""
        body, more = self.encode(question)
        bearer = {"authorization": f"Bearer {key}"} if key else {}
        headers = {"host": "cesta", "content-type": "application/json", **more, **bearer}
        lines = [f"POST {self.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
        return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


def keys() -> list[str]:
    """A gateway's keys, to be used in turns; [""] without. No option: command lines are for all to see."""
    return os.environ.get("CESTA_KEYS", "").split(",")


def write_requests(wire: Wire, questions: Iterable[Question], file: Path) -> Path:
    """Write what the generators send: for each request a line with its length, then its bytes."""
    with file.open("wb") as out:
        for question in questions:
            request = wire.request(question)
            out.write(b"%d\n" % len(request) + request)
    return file


def read_requests(file: Path) -> list[bytes]:
    """What `write_requests` wrote."""
    requests = []
    with file.open("rb") as source:
        while length := source.readline():
            requests.append(source.read(int(length)))
    return requests


def write_perf_analyzer_input(questions: Iterable[Question], file: Path) -> Path:
    """The same questions as perf_analyzer's --input-data; "" stands for no item and for nobody."""
    entries = [
        {
            "basket": {"content": list(q.basket) or [""], "shape": [max(len(q.basket), 1)]},
            "user_id": [q.user_id],
        }
        for q in questions
    ]
    file.write_text(json.dumps({"data": entries}), encoding="utf-8")
    return file


def _plain(question: Question) -> tuple[bytes, dict[str, str]]:
    return json.dumps(question.json).encode(), {}


def _listed(question: Question) -> tuple[bytes, dict[str, str]]:
    return json.dumps({"questions": [question.json]}).encode(), {}


def _in_a_tensor(question: Question) -> tuple[bytes, dict[str, str]]:
    tensor = {"name": "question", "shape": [1], "datatype": "BYTES", "data": [json.dumps(question.json)]}
    return json.dumps({"inputs": [tensor]}).encode(), {}


def _binary(question: Question) -> tuple[bytes, dict[str, str]]:
    tensors = []
    for name, ids in {"basket": question.basket or [""], "user_id": [question.user_id]}.items():
        tensors.append(InferInput(name, [1, len(ids)], "BYTES"))
        tensors[-1].set_data_from_numpy(np.array([[i.encode() for i in ids]], np.object_))
    body, json_size = InferenceServerClient.generate_request_body(tensors)
    headers = {"content-type": "application/octet-stream"}
    return body, headers | {"inference-header-content-length": str(json_size)}


def _answer(item_ids: Iterable[str], scores: Iterable[float]) -> Answer:
    kept = [(i, float(s)) for i, s in zip(item_ids, scores, strict=True) if i]
    return Answer([i for i, _ in kept], [s for _, s in kept])


def _of_plain(body: bytes, _: Headers) -> Answer:
    found: dict[str, Any] = json.loads(body)
    return _answer(found["item_ids"], found["scores"])


def _of_items(body: bytes, _: Headers) -> Answer:
    items = json.loads(body)["items"]
    return _answer([item["item_id"] for item in items], [item["score"] for item in items])


def _of_listed(body: bytes, _: Headers) -> Answer:
    (found,) = json.loads(body)
    return _answer(found["item_ids"], found["scores"])


def _of_tensors(body: bytes, _: Headers) -> Answer:
    found = {tensor["name"]: tensor["data"] for tensor in json.loads(body)["outputs"]}
    return _answer(found["item_ids"], found["scores"])


def _of_binary(body: bytes, headers: Headers) -> Answer:
    size = int(headers["inference-header-content-length"])
    result = InferenceServerClient.parse_response_body(body, header_length=size)
    ids, scores = result.as_numpy("item_ids"), result.as_numpy("scores")
    assert ids is not None
    assert scores is not None
    return _answer([i.decode() for i in ids[0]], scores[0].tolist())


TRITON = "/v2/models/recommender"
GENERATE = Wire("HTTP JSON", f"{TRITON}/generate", _plain, _of_plain)
BINARY = Wire("HTTP V2 binary", f"{TRITON}/infer", _binary, _of_binary)
GATEWAY = Wire("gateway", "/v1/recommend", _plain, _of_items)
PLAIN = Wire("HTTP JSON", "/recommend", _plain, _of_plain)
LISTED = Wire("HTTP JSON", "/recommend", _listed, _of_listed)
OPEN_INFERENCE = Wire("HTTP V2 JSON", TRITON + "/infer", _in_a_tensor, _of_tensors)
WIRES = {wire.path: wire for wire in (GENERATE, BINARY, GATEWAY)}  # how cesta is asked over HTTP, by path
