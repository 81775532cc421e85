"""What tritonserver 2.51 gets wrong. The tests pin what is safe to send, so that an upgrade shows a change.

- Triton answers 500 instead of 400 to malformed JSON and to JSON of the wrong types (`MALFORMED`).
- The response cache compares only the names and bytes of inputs. A request with equal bytes in another shape,
  or for fewer outputs, gets whichever answer is cached, and poisons the cache for later requests.
- Triton cuts a batch size to 32 bits: 2**32 + 1 queries pass for 1. 2**32 queries and 0 queries pass for a
  request without a batch axis; the answer then has no batch axis either.
- `generate` flattens nested lists and takes a list of n user ids for a batch of n. It ignores unknown keys
  with text or numbers as "parameters", so that a misspelt key beside a right one goes unnoticed.
- Triton refuses a request without any input with "out of bounds index 0".

The tests do not send the following requests, which were tried by hand on a server that was thrown away:

- V2 JSON allocates a tensor of numbers by its shape before it reads the config. 100 bytes of
  {"inputs": [{"name": "basket", "shape": [1, 2**40], "datatype": "INT32", "data": [1]}]} end the whole server
  (SIGABRT; SIGSEGV if shape times size overflows). Smaller shapes take that much memory. BYTES, binary data,
  gRPC and `generate` are not affected, so only trusted callers may use `infer` over HTTP.
- 100,000 nested "[" in a JSON body overflow the usual stack of 8 MiB and end the whole server. `Server`
  starts it with a stack limit of 1 GiB, which a test below checks. Elsewhere `ulimit -s` must raise it.
- Triton never schedules or answers a batch of 0 sent to `candidate_sampler` itself ([0, 0], no data).
"""

from __future__ import annotations

import json

import pytest

from tests.running.live import Live
from tests.running.raw_requests import GENERATE, INFER, grpc_request, packed, send, send_grpc, tensor

pytestmark = [pytest.mark.triton, pytest.mark.timeout(120), pytest.mark.usefixtures("still_answering")]

ITEM = tensor("basket", ["a"])
MALFORMED = {
    "no JSON": (INFER, "hello", "failed to parse the request JSON buffer: Invalid value. at 0"),
    "cut off": (INFER, '{"inputs": [', "failed to parse the request JSON buffer: Invalid value. at 12"),
    "no object": (
        INFER,
        [],
        "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'",
    ),
    "no inputs": (
        INFER,
        {},
        "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'",
    ),
    "inputs null": (
        INFER,
        {"inputs": None},
        "Unable to parse 'inputs': attempt to access JSON non-array as array",
    ),
    "no name": (
        INFER,
        {"inputs": [{"shape": [1, 1], "datatype": "BYTES", "data": ["a"]}]},
        "Unable to parse 'name': attempt to access non-existing object member 'name'",
    ),
    "no shape": (
        INFER,
        {"inputs": [{"name": "basket", "datatype": "BYTES", "data": ["a"]}]},
        "Unable to parse 'shape': attempt to access non-existing object member 'shape'",
    ),
    "no type": (
        INFER,
        {"inputs": [{"name": "basket", "shape": [1, 1], "data": ["a"]}]},
        "Unable to parse 'datatype': attempt to access non-existing object member 'datatype'",
    ),
    "-1 items": (
        INFER,
        {"inputs": [ITEM | {"shape": [1, -1]}]},
        "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer",
    ),
    "2**64 items": (
        INFER,
        {"inputs": [ITEM | {"shape": [1, 2**64]}]},
        "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer",
    ),
    "a shape of text": (
        INFER,
        {"inputs": [ITEM | {"shape": "1, 1"}]},
        "Unable to parse 'shape': attempt to access JSON non-array as array",
    ),
    "a number as id": (
        INFER,
        {"inputs": [ITEM | {"data": [1095275]}]},
        "Unable to parse JSON bytes array: attempt to access JSON non-string as string",
    ),
    "parameters null": (
        INFER,
        {"inputs": [ITEM], "parameters": None},
        "failed to get request params.: attempt to get members for non-object",
    ),
    "generate: parameters null": (
        GENERATE,
        {"basket": ["a"], "parameters": None},
        "Expected JSON object for keyword: 'parameters': attempt to access JSON non-object as object",
    ),
    "generate: a key with a NUL": (
        GENERATE,
        {"basket": ["a"], "user\0id": "b"},
        "parameter key 'user' was not found in the JSON",
    ),
    "fewer numbers than said": (
        INFER,
        {"inputs": [tensor("basket", [], [1, 1], "INT32")]},
        "Unable to parse 'data': Shape does not match true shape of 'data' field",
    ),
    "generate: no JSON": (GENERATE, "hello", "failed to parse the request JSON buffer: Invalid value. at 0"),
    "generate: nothing": (
        GENERATE,
        "",
        "failed to parse the request JSON buffer: The document is empty. at 0",
    ),
    "generate: half a surrogate pair": (
        GENERATE,
        '{"basket": ["\\ud800"]}',
        "failed to parse the request JSON buffer: The surrogate pair in string is invalid. at 13",
    ),
    "generate: no object": (GENERATE, [], "attempt to get members for non-object"),
    "generate: a number as id": (
        GENERATE,
        {"basket": [1095275]},
        "Unable to parse JSON bytes array: attempt to access JSON non-string as string",
    ),
    "generate: null": (
        GENERATE,
        {"user_id": None},
        "Unable to parse JSON bytes array: attempt to access JSON non-string as string",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_triton_takes_malformed_json_for_its_own_failure(uncached: Live, case: str) -> None:
    """Triton answers 500 instead of 400. Clients that retry on 5xx, and alarms on them, must know."""
    path, body, text = MALFORMED[case]

    assert send(uncached, path, body) == (500, text)


@pytest.mark.parametrize("path", [GENERATE, INFER])
def test_deeply_nested_json_does_not_overflow_the_stack(uncached: Live, path: str) -> None:
    status, _ = send(uncached, path, "[" * 300_000)
    assert isinstance(status, int)
    assert status >= 400


def test_triton_does_not_know_brotli(uncached: Live) -> None:
    assert send(uncached, INFER, "", {"Content-Encoding": "br"}) == (501, "Unsupported compression type")


def test_triton_cuts_batch_sizes_to_32_bits(uncached: Live) -> None:
    """Triton does not notice the surplus, and allocates nothing for it."""
    for queries in (2**32 + 1, 2**32, 0):
        items = [b"a"] if queries else []
        request = grpc_request(("basket", [queries, len(items)]), raw=[packed(*items)])
        assert send_grpc(uncached, request) == ("OK", "")


@pytest.mark.parametrize(
    ("body", "means"),
    [
        ({"basket": [["a"], ["b"]]}, {"basket": ["a", "b"]}),
        ({"basket": ["a"], "user": "900"}, {"basket": ["a"]}),
        ({"basket": "a"}, {"basket": ["a"]}),
    ],
)
def test_generate_guesses(uncached: Live, body: object, means: object) -> None:
    """It flattens nested lists, takes a text for a list of one, and ignores an unknown key with a text."""
    status, text = send(uncached, GENERATE, body)

    assert (status, text) == send(uncached, GENERATE, means)
    assert status == 200


def test_triton_s_cache_confuses_shapes_and_outputs(live: Live) -> None:
    """The key is names and bytes of the inputs. The ids are this test's own, as the entries stay spoilt."""

    def ask(ids: list[str], shape: list[int], **more: object) -> dict[str, list[int]]:
        status, text = send(live, INFER, {"inputs": [tensor("basket", ids, shape)], **more})
        assert status == 200
        return {output["name"]: output["shape"] for output in json.loads(text)["outputs"]}

    whole = {"item_ids": [1, 20], "scores": [1, 20], "reasons": [1, 20], "digest": [1, 1]}
    assert ask(["two", "apart"], [2, 1])["item_ids"] == [2, 20]
    assert ask(["two", "apart"], [1, 2])["item_ids"] == [2, 20]
    assert ask(["scores", "only"], [1, 2], outputs=[{"name": "scores"}]) == {"scores": [1, 20]}
    assert ask(["scores", "only"], [1, 2]) == {"scores": [1, 20]}
    assert ask(["never", "asked"], [1, 2]) == whole
