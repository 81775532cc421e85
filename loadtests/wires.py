"""Encodes questions as HTTP requests and decodes answers, in the form of each server."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from tritonclient.grpc import service_pb2
from tritonclient.http import InferenceServerClient, InferInput

from loadtests.questions import Question

Headers = Mapping[str, str]  # names in lower case
ALL_ITEMS: Final = 20  # of an answer


@dataclass(frozen=True)
class Answer:
    """Item ids and scores, best first, without padding."""

    item_ids: list[str]
    scores: list[float]


@dataclass(frozen=True)
class Wire:
    """A server's form: `encode` makes a request's body and extra headers, `decode` reads an answer's."""

    name: str
    path: str
    encode: Callable[[Question], tuple[bytes, dict[str, str]]]
    decode: Callable[[bytes, Headers], Answer]

    def request(self, question: Question, key: str = "") -> bytes:
        """The whole HTTP/1.1 request. A gateway needs a `key`, sent as Bearer token."""
        body, wire_headers = self.encode(question)
        bearer = {"authorization": f"Bearer {key}"} if key else {}
        headers = {"host": "cesta", "content-type": "application/json", **wire_headers, **bearer}
        lines = [f"POST {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


def read_keys() -> list[str]:
    """The gateway's keys, used in turn; [""] without a gateway.

    They have no option, because every user of a machine sees its command lines.
    """
    return os.environ.get("CESTA_KEYS", "").split(",")


def write_requests(wire: Wire, questions: Iterable[Question], file: Path, key: str = "") -> Path:
    """Write the requests for the generators."""
    return _write_each((wire.request(question, key) for question in questions), file)


def write_messages(questions: Iterable[Question], file: Path) -> Path:
    """Write the questions for grpc_loop, as cesta_client sends them."""
    return _write_each(map(_encode_message, questions), file)


def _write_each(requests: Iterable[bytes], file: Path) -> Path:
    """For each request a line with its length, then its bytes."""
    with file.open("wb") as out:
        for request in requests:
            out.write(b"%d\n" % len(request) + request)
    return file


def read_requests(file: Path) -> list[bytes]:
    """Read a file of `write_requests` or `write_messages`."""
    requests = []
    with file.open("rb") as source:
        while length := source.readline():
            requests.append(source.read(int(length)))
    return requests


def write_perf_analyzer_input(questions: Iterable[Question], file: Path) -> Path:
    """Write the questions as perf_analyzer's --input-data; "" means no item or no user."""
    entries = [
        {
            "basket": {
                "content": list(question.basket) or [""],
                "shape": [max(len(question.basket), 1)],
            },
            "user_id": [question.user_id],
        }
        for question in questions
    ]
    file.write_text(json.dumps({"data": entries}), encoding="utf-8")
    return file


def _encode_plain(question: Question) -> tuple[bytes, dict[str, str]]:
    return json.dumps(question.json).encode(), {}


def _encode_list(question: Question) -> tuple[bytes, dict[str, str]]:
    return json.dumps({"questions": [question.json]}).encode(), {}


def _encode_tensor(question: Question) -> tuple[bytes, dict[str, str]]:
    tensor = {"name": "question", "shape": [1], "datatype": "BYTES", "data": [json.dumps(question.json)]}
    return json.dumps({"inputs": [tensor]}).encode(), {}


def _encode_all_items(question: Question) -> tuple[bytes, dict[str, str]]:
    return json.dumps(question.json | {"k": ALL_ITEMS}).encode(), {}


def _encode_message(question: Question) -> bytes:
    request = service_pb2.ModelInferRequest(model_name=TRITON.rpartition("/")[2])
    for name, ids in {"basket": question.basket or ("",), "user_id": (question.user_id,)}.items():
        request.inputs.add(name=name, datatype="BYTES", shape=[1, len(ids)])
        encoded = [item_id.encode() for item_id in ids]
        request.raw_input_contents.append(
            b"".join(len(item_id).to_bytes(4, "little") + item_id for item_id in encoded)
        )
    content: bytes = request.SerializeToString()
    return content


def _encode_binary(question: Question) -> tuple[bytes, dict[str, str]]:
    tensors = []
    for name, ids in {"basket": question.basket or [""], "user_id": [question.user_id]}.items():
        tensors.append(InferInput(name, [1, len(ids)], "BYTES"))
        tensors[-1].set_data_from_numpy(np.array([[item_id.encode() for item_id in ids]], np.object_))
    body, json_size = InferenceServerClient.generate_request_body(tensors)
    headers = {"content-type": "application/octet-stream"}
    return body, headers | {"inference-header-content-length": str(json_size)}


def _without_padding(item_ids: Iterable[str], scores: Iterable[float]) -> Answer:
    items = [(item_id, float(score)) for item_id, score in zip(item_ids, scores, strict=True) if item_id]
    return Answer([item_id for item_id, _ in items], [score for _, score in items])


def _decode_plain(body: bytes, _: Headers) -> Answer:
    answer: dict[str, Any] = json.loads(body)
    return _without_padding(answer["item_ids"], answer["scores"])


def _decode_items(body: bytes, _: Headers) -> Answer:
    items = json.loads(body)["items"]
    return _without_padding([item["item_id"] for item in items], [item["score"] for item in items])


def _decode_list(body: bytes, _: Headers) -> Answer:
    (answer,) = json.loads(body)
    return _without_padding(answer["item_ids"], answer["scores"])


def _decode_tensors(body: bytes, _: Headers) -> Answer:
    data = {tensor["name"]: tensor["data"] for tensor in json.loads(body)["outputs"]}
    return _without_padding(data["item_ids"], data["scores"])


def _decode_binary(body: bytes, headers: Headers) -> Answer:
    size = int(headers["inference-header-content-length"])
    result = InferenceServerClient.parse_response_body(body, header_length=size)
    ids, scores = result.as_numpy("item_ids"), result.as_numpy("scores")
    assert ids is not None
    assert scores is not None
    return _without_padding([item_id.decode() for item_id in ids[0]], scores[0].tolist())


TRITON = "/v2/models/recommender"
GENERATE = Wire("HTTP JSON", f"{TRITON}/generate", _encode_plain, _decode_plain)
BINARY = Wire("HTTP V2 binary", f"{TRITON}/infer", _encode_binary, _decode_binary)
GATEWAY = Wire("gateway", "/v1/recommend", _encode_plain, _decode_items)
GATEWAY_ALL = Wire("HTTP JSON", GATEWAY.path, _encode_all_items, _decode_items)  # as many items as the others
PLAIN = Wire("HTTP JSON", "/recommend", _encode_plain, _decode_plain)
LISTED = Wire("HTTP JSON", "/recommend", _encode_list, _decode_list)
OPEN_INFERENCE = Wire("HTTP V2 JSON", TRITON + "/infer", _encode_tensor, _decode_tensors)
WIRES = {wire.path: wire for wire in (GENERATE, BINARY, GATEWAY)}  # cesta's own over HTTP, by path
