"""Sends any bytes to a live release over each of its protocols, and returns the answer."""

from __future__ import annotations

import http.client
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.running.live import MODEL, Live
from tests.running.questions import Question, over_generate

TIMEOUT_S = 30  # an answer that takes longer counts as none
INFER, GENERATE = f"/v2/models/{MODEL}/infer", f"/v2/models/{MODEL}/generate"

Ids = Mapping[str, Sequence[bytes]]  # input → ids of one query


def good_answer(live: Live) -> list[str]:
    reply = over_generate(live, [Question(tuple(live.item_ids[:3]), live.user_ids[0])])
    assert reply.item_ids.shape == (1, 20)
    return reply.item_ids[0].tolist()


def send(
    live: Live, path: str, body: bytes | str | object, headers: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Status and error text; the whole body if there is no error."""
    connection = http.client.HTTPConnection(live.http, timeout=TIMEOUT_S)
    try:
        connection.request(
            "POST", path, body if isinstance(body, bytes | str) else json.dumps(body), headers or {}
        )
        response = connection.getresponse()
        text = response.read().decode(errors="backslashreplace")
    finally:
        connection.close()
    return response.status, json.loads(text)["error"] if response.status != 200 else text


def send_grpc(live: Live, request: service_pb2.ModelInferRequest) -> tuple[str, str]:
    """gRPC's code and text; ("OK", "") for an answer."""
    ((code, answer),) = send_together(live, [request])
    return code, answer if isinstance(answer, str) else ""


def send_together(
    live: Live, requests: Sequence[service_pb2.ModelInferRequest], timeout_s: float = TIMEOUT_S
) -> list[tuple[str, str | service_pb2.ModelInferResponse]]:
    """Send all before the first answer is awaited; gRPC's code and text of each, or "OK" and its answer."""
    answers: list[tuple[str, str | service_pb2.ModelInferResponse]] = []
    with grpc.insecure_channel(live.grpc) as channel:
        infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        for call in [infer.future(request, timeout=timeout_s) for request in requests]:
            try:
                answers.append(("OK", call.result()))
            except grpc.RpcError as error:
                answers.append((error.code().name, error.details()))
    return answers


def tensor(name: str, data: Sequence[Any], shape: object = None, datatype: str = "BYTES") -> dict[str, Any]:
    shape = [1, len(data)] if shape is None else shape
    return {"name": name, "shape": shape, "datatype": datatype, "data": list(data)}


def packed(*ids: bytes) -> bytes:
    """Triton's BYTES format: each id with its length in front."""
    return b"".join(struct.pack("<I", len(value)) + value for value in ids)


def binary(inputs: Sequence[tuple[str, object, object]], data: bytes) -> tuple[bytes, dict[str, str]]:
    """Body and headers of V2 with binary tensors, given as (name, shape, declared size)."""
    described = [
        {"name": name, "shape": shape, "datatype": "BYTES", "parameters": {"binary_data_size": size}}
        for name, shape, size in inputs
    ]
    head = json.dumps({"inputs": described}).encode()
    return head + data, {"Inference-Header-Content-Length": str(len(head))}


def grpc_request(*inputs: tuple[Any, ...], raw: Sequence[bytes] = (), **fields: Any) -> Any:
    """A request with an input for each (name, shape[, datatype[, explicit contents]])."""
    request = service_pb2.ModelInferRequest(**({"model_name": MODEL} | fields))
    for name, shape, datatype, *contents in ((*i, "BYTES")[: max(3, len(i))] for i in inputs):
        added = request.inputs.add(name=name, shape=shape, datatype=datatype)
        for values in contents:
            added.contents.bytes_contents.extend(values)
    request.raw_input_contents.extend(raw)
    return request


def by_json(live: Live, ids: Ids) -> tuple[object, str]:
    inputs = [tensor(name, [value.decode("latin-1") for value in values]) for name, values in ids.items()]
    return send(live, INFER, json.dumps({"inputs": inputs}, ensure_ascii=False).encode("latin-1"))


def by_generate(live: Live, ids: Ids) -> tuple[object, str]:
    body = {name: [value.decode("latin-1") for value in values] for name, values in ids.items()}
    return send(live, GENERATE, json.dumps(body, ensure_ascii=False).encode("latin-1"))


def by_binary(live: Live, ids: Ids) -> tuple[object, str]:
    inputs = [(name, [1, len(values)], len(packed(*values))) for name, values in ids.items()]
    return send(live, INFER, *binary(inputs, b"".join(packed(*values) for values in ids.values())))


def by_grpc(live: Live, ids: Ids) -> tuple[object, str]:
    return send_grpc(live, one_query(ids))


def one_query(ids: Ids) -> service_pb2.ModelInferRequest:
    inputs = [(name, [1, len(values)]) for name, values in ids.items()]
    return grpc_request(*inputs, raw=[packed(*values) for values in ids.values()])


WIRES = {"json": by_json, "generate": by_generate, "binary": by_binary, "grpc": by_grpc}


def check_text(live: Live, text: str) -> None:
    """Fail if an error for the caller holds a traceback or a path of the server."""
    for secret in (str(live.built.root), str(live.server._runtime), "Traceback", "site-packages", ".py"):
        assert secret not in text


def numbers(count: int) -> list[bytes]:
    return [b"%d" % n for n in range(count)]
