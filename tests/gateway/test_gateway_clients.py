"""cesta_client and raw gRPC through the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2, service_pb2_grpc

from cesta_client import AsyncRecommender, InvalidRequest, Query, Recommender, Throttled, Unauthorized
from tests.running.door import FUZZ, TIMEOUT_S, Door

pytestmark = pytest.mark.triton

BASKETS = [("i1",), ("i2", "i3"), ()]


@pytest.fixture(params=["grpc", "http"])
def wire(request: pytest.FixtureRequest) -> str:
    return request.param


def connected(door: Door, wire: str, key: str | None = "shop") -> Recommender:
    return Recommender(
        address(door, wire), protocol=wire, api_key=door.keys.get(key, key), timeout_s=TIMEOUT_S
    )


def address(door: Door, wire: str) -> str:
    return door.settings.grpc if wire == "grpc" else door.settings.http


def test_the_client_gets_what_the_shop_s_json_says(door: Door, wire: str) -> None:
    """`recommend`, `recommend_many` and `is_ready` all work."""
    expected = [[item["item_id"] for item in door.recommend(*basket).body["items"]] for basket in BASKETS]
    with connected(door, wire) as shop:
        assert shop.is_ready()
        assert [[i.item_id for i in shop.recommend(basket)] for basket in BASKETS] == expected
        many = shop.recommend_many([Query(basket, "900") for basket in BASKETS])
        assert [[i.item_id for i in answer] for answer in many] == expected  # the toy knows no users
        assert many[0].release == 2


def test_a_batch_within_the_limits_is_answered_whatever_its_size(door: Door, wire: str) -> None:
    """One wide basket widens 63 others. 64 queries of 200 long ids are over a megabyte. All of it fits a
    body.
    """
    wide = Query([f"{n:0128}" for n in range(200)], k=1)
    with connected(door, wire) as shop:
        for queries in ([wide, *[Query(["i1"], k=1)] * 63], [wide] * 64):
            assert len(shop.recommend_many(queries, timeout_s=30)) == 64


def test_a_question_over_64_kib_is_invalid(door: Door, wire: str) -> None:
    """The error is not "too many requests": trying again would never help."""
    with connected(door, wire) as shop, pytest.raises(InvalidRequest, match="the body is over 64 KiB"):
        shop.recommend(exclude=[f"{n:0128}" for n in range(1000)])


def test_asyncio_sends_its_key(door: Door, wire: str) -> None:
    async def ask() -> int:
        key = door.keys["shop"]
        async with AsyncRecommender(
            address(door, wire), protocol=wire, api_key=key, timeout_s=TIMEOUT_S
        ) as shop:
            return len(await shop.recommend(["i1"]))

    assert asyncio.run(ask()) == 10


def test_errors_of_the_gateway_are_the_client_s_own(door: Door, wire: str) -> None:
    """The client retries none: a wrong key stays wrong, and retries would add requests to too many."""
    with connected(door, wire, None) as nobody:
        with pytest.raises(Unauthorized, match="a valid key is needed") as stranger:
            nobody.recommend(request_id="unknown-1")
        assert (stranger.value.code, stranger.value.retry_after_s) == ("no_valid_key", None)
        assert stranger.value.request_id
    with connected(door, wire, "slow-shop") as slow, ThreadPoolExecutor(20) as threads:
        requests = [threads.submit(slow.recommend, [f"i{n}"]) for n in range(40)]
        refused = [error for request in requests if (error := request.exception())]
    assert {type(error) for error in refused} == {Throttled}
    assert "too many requests" in str(refused[0])
    assert {(error.code, error.retry_after_s) for error in refused} <= {
        ("rate_exceeded", 1),
        ("too_many_in_flight", 1),
    }


# ---- raw gRPC


Call = Callable[..., tuple[str, str]]


@pytest.fixture
def call(door: Door) -> Iterator[Call]:
    """`call("ModelInfer", request)`: gRPC's code and text; ("OK", "") for an answer."""
    with grpc.insecure_channel(door.settings.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

        def call(method: str, request: Any, key: str | None = "shop", **options: Any) -> tuple[str, str]:
            metadata = [("authorization", f"Bearer {door.keys[key]}")] if key else []
            try:
                getattr(stub, method)(request, timeout=TIMEOUT_S, metadata=metadata, **options)
            except grpc.RpcError as error:
                return error.code().name, error.details()
            return "OK", ""

        yield call


def infer_request(*shapes: tuple[str, list[int]], **fields: Any) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(**({"model_name": "recommender"} | fields))
    for name, shape in shapes:
        request.inputs.add(name=name, shape=shape, datatype="BYTES")
        request.raw_input_contents.append(b"\x02\0\0\0i1" * int(np.prod(np.abs(shape))))
    return request


def test_health_needs_a_key_and_nothing_else_is_there(call: Call) -> None:
    """The admin's key does not help either: management has no gRPC."""
    for method in ("ServerLive", "ServerReady"):
        assert call(method, getattr(service_pb2, f"{method}Request")()) == ("OK", "")
        assert call(method, getattr(service_pb2, f"{method}Request")(), key=None)[0] == "UNAUTHENTICATED"
    hidden = {
        "RepositoryIndex": service_pb2.RepositoryIndexRequest(),
        "RepositoryModelUnload": service_pb2.RepositoryModelUnloadRequest(model_name="recommender"),
        "ModelConfig": service_pb2.ModelConfigRequest(name="recommender"),
        "ModelStatistics": service_pb2.ModelStatisticsRequest(),
        "SystemSharedMemoryStatus": service_pb2.SystemSharedMemoryStatusRequest(),
        "SystemSharedMemoryRegister": service_pb2.SystemSharedMemoryRegisterRequest(name="x"),
        "CudaSharedMemoryStatus": service_pb2.CudaSharedMemoryStatusRequest(),
        "TraceSetting": service_pb2.TraceSettingRequest(),
        "LogSettings": service_pb2.LogSettingsRequest(),
        "ServerMetadata": service_pb2.ServerMetadataRequest(),
    }
    for method, request in hidden.items():
        assert call(method, request, key="admin") == ("UNIMPLEMENTED", "no such path"), method


B = ("basket", [1, 1])
OTHER_FORMS: dict[str, service_pb2.ModelInferRequest] = {
    "another model": infer_request(B, model_name="candidate_sampler"),
    "a canary": infer_request(B, model_name="recommender_canary"),
    "a version": infer_request(B, model_version="1"),
    "no inputs": infer_request(),
    "rank 1": infer_request(("basket", [1])),
    "rank 3": infer_request(("basket", [1, 1, 1])),
    "no queries": infer_request(("basket", [0, 1])),
    "negative": infer_request(("basket", [-1, 1])),
    "2**32 + 1 queries": infer_request(B, ("user_id", [1, 1])),
    "65 queries": infer_request(("basket", [65, 1]), ("user_id", [65, 1])),
    "two queries without users": infer_request(("basket", [2, 1])),
    "two users": infer_request(("user_id", [1, 2])),
    "an input twice": infer_request(B, B),
    "an unknown input": infer_request(("user_row", [1, 1])),
}
OTHER_FORMS["2**32 + 1 queries"].inputs[0].shape[0] = 2**32 + 1
for name, changed in {
    "numbers": {"datatype": "INT32"},
    "contents": {"contents": {"bytes_contents": [b"i1"]}},
}.items():
    OTHER_FORMS[name] = infer_request()
    OTHER_FORMS[name].inputs.add(**({"name": "basket", "shape": [1, 1], "datatype": "BYTES"} | changed))
    OTHER_FORMS[name].raw_input_contents.append(b"\x02\0\0\0i1")
OTHER_FORMS["fewer outputs"] = infer_request(B)
OTHER_FORMS["fewer outputs"].outputs.add(name="scores")
OTHER_FORMS["parameters"] = infer_request(B)
OTHER_FORMS["parameters"].parameters["priority"].uint64_param = 1
OTHER_FORMS["shared memory"] = infer_request(B)
OTHER_FORMS["shared memory"].inputs[0].parameters["shared_memory_region"].string_param = "x"


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_only_the_client_s_form_of_a_question_is_passed_on(call: Call, form: str) -> None:
    """Other forms of equal bytes would spoil the answers that Triton's cache holds for everybody."""
    code, text = call("ModelInfer", OTHER_FORMS[form])

    assert code == "INVALID_ARGUMENT"
    assert text
    assert call("ModelInfer", infer_request(B)) == ("OK", "")


@settings(max_examples=FUZZ, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_garbled_message_is_refused_or_answered(door: Door, channel: grpc.Channel, data: Any) -> None:
    """Bytes are changed, removed and inserted at random; neither the gateway nor Triton breaks."""
    message = bytearray(infer_request(B, ("user_id", [1, 1])).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(message) - 1))
        message[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    metadata = [("authorization", f"Bearer {door.keys['shop']}")]
    code = infer.future(bytes(message), timeout=TIMEOUT_S, metadata=metadata).code()
    assert code in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT), bytes(message)


@pytest.fixture
def channel(door: Door) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(door.settings.grpc) as channel:
        yield channel


def test_compressed_messages_are_refused(call: Call) -> None:
    large = infer_request(("basket", [1, 200]))  # gRPC compresses only what becomes smaller
    code, text = call("ModelInfer", large, compression=grpc.Compression.Gzip)
    assert (code, "uncompressed" in text) == ("INVALID_ARGUMENT", True)


# ---- raw V2 over HTTP

V2 = "/v2/models/recommender/infer"


def test_tensors_in_json_never_reach_triton(door: Door, triton: Any) -> None:
    """A hundred bytes of them end the whole server. They are sent with and without the length that marks
    binary data.
    """
    bomb = b'{"inputs": [{"name": "basket", "shape": [1, 1099511627776], "datatype": "INT32", "data": [1]}]}'
    lengths = ({}, *({"Inference-Header-Content-Length": n} for n in (str(len(bomb)), "0", "2", "1e3", "x")))
    for headers in lengths:
        for body in (bomb, bomb[:-1] + b', "parameters": {}}', bomb + b"\x02\0\0\0i1"):
            answer = door.ask(V2, body, headers=headers)
            assert answer.status == 400
            assert answer.error
    assert door.recommend("i1").status == 200
    with triton_grpc.InferenceServerClient(triton.grpc) as client:
        assert client.is_server_live()


def test_a_head_with_a_name_twice_is_written_anew(door: Door) -> None:
    """Parsers differ in which of two equal names counts. Triton sees the one that the gateway checked."""
    good = '{"name": "basket", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": 6}}'
    bad = '{"name": "basket", "shape": [1, 1099511627776], "datatype": "INT32", "data": [1]}'
    head = f'{{"inputs": [{bad}], "inputs": [{good}]}}'.encode()
    received = door.send(
        b"POST %b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n"
        b"Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n"
        % (V2.encode(), door.keys["shop"].encode(), len(head), len(head) + 6)
        + head
        + b"\x02\0\0\0i1"
    )
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b'"model_version":"2"' in received


def test_a_refused_request_is_invalid_for_the_client(door: Door, wire: str) -> None:
    """The request has 65 queries, which recommend_many never sends."""
    with connected(door, wire) as shop, pytest.raises(InvalidRequest, match="holds 65 queries"):
        shop._transport.infer(  # type: ignore[attr-defined]
            {"basket": np.full((65, 1), b"i1", object), "user_id": np.full((65, 1), b"", object)},
            timeout_s=TIMEOUT_S,
            request_id="",
            headers={},
        )
