"""Arbitrary requests are answered or refused; none of them stops the server."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.running.live import Live
from tests.running.raw_requests import (
    GENERATE,
    INFER,
    WIRES,
    Ids,
    binary,
    check_text,
    good_answer,
    grpc_request,
    numbers,
    packed,
    send,
    send_grpc,
)

pytestmark = [pytest.mark.triton, pytest.mark.timeout(120), pytest.mark.usefixtures("still_answering")]

ARBITRARY = settings(
    max_examples=150,
    derandomize=True,  # the same requests in every run
    database=None,
    deadline=None,  # TIMEOUT_S is the deadline
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
OWN_FAILURES = re.compile(  # the kinds of MALFORMED in test_triton_flaws.py, and no others
    r"failed to parse the request JSON buffer: [^\n]* at \d+"
    r"|([^\n]*: )?attempt to (access JSON non-[a-z-]+ as [a-z-]+|get members for non-object"
    r"|access non-existing object member '[a-z_]+')"
    r"|parameter key '.*' was not found in the JSON"
    r"|Unable to parse 'data': Shape does not match true shape of 'data' field",
    re.DOTALL,
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=12,
)
NAMES = st.sampled_from(["basket", "user_id", "exclude", "categories"]) | st.text(max_size=10)
TEXTS = st.lists(st.text(max_size=140), max_size=5)
SIZES = (
    st.integers(0, 3)
    | st.sampled_from([64, 65, 200, 2**31, 2**32, 2**32 + 1, 2**63 - 1])
    | st.integers(-5, 2**63 - 1)
)
SHAPES = st.lists(SIZES, max_size=4)
DATA = {"data": TEXTS | VALUES, "parameters": VALUES}
TENSORS = st.fixed_dictionaries(
    {}, optional={"name": NAMES, "shape": SHAPES | VALUES, "datatype": st.just("BYTES") | VALUES, **DATA}
) | st.fixed_dictionaries(
    {
        "name": NAMES,
        "shape": st.lists(st.integers(0, 9), max_size=4),  # small: test_triton_flaws.py says why
        "datatype": st.sampled_from(["INT32", "FP64", "BOOL", "UINT8"]),
    },
    optional=DATA,
)
INFER_BODIES = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS | VALUES, max_size=4)},
    optional={"outputs": VALUES, "id": VALUES, "parameters": VALUES},
)
GENERATE_BODIES = st.dictionaries(
    NAMES | st.sampled_from(["id", "parameters"]), TEXTS | st.text() | VALUES, max_size=5
)
BODIES = (VALUES | INFER_BODIES | GENERATE_BODIES).map(json.dumps) | st.binary(max_size=200)


def check_outcome(live: Live, status: object, text: str) -> None:
    """Fail unless the request is answered, refused, or one of Triton's known 500s; then ask a good query."""
    if status not in (200, 400, 404, "OK", "INVALID_ARGUMENT"):
        assert status == 500
        assert OWN_FAILURES.fullmatch(text), text
    if status not in (200, "OK"):
        check_text(live, text)
    good_answer(live)


@ARBITRARY
@given(path=st.sampled_from([INFER, GENERATE]), body=BODIES)
def test_arbitrary_bodies_are_survived(uncached: Live, path: str, body: str | bytes) -> None:
    check_outcome(uncached, *send(uncached, path, body))


@ARBITRARY
@given(
    wire=st.sampled_from(list(WIRES)),
    ids=st.dictionaries(
        st.sampled_from(["basket", "user_id", "exclude", "categories"]),
        st.lists(st.binary(max_size=140), max_size=8) | st.integers(0, 1100).map(numbers),
        min_size=1,
    ),
)
def test_arbitrary_bytes_as_ids_are_answered_or_refused(uncached: Live, wire: str, ids: Ids) -> None:
    check_outcome(uncached, *WIRES[wire](uncached, ids))


@ARBITRARY
@given(
    inputs=st.lists(st.tuples(NAMES, SHAPES | VALUES, SIZES | VALUES), max_size=4),
    data=st.lists(st.binary(max_size=20), max_size=6),
    head=st.none() | st.integers(-1, 400),
)
def test_arbitrary_binary_tensors_are_survived(
    uncached: Live, inputs: list[tuple[str, object, object]], data: list[bytes], head: int | None
) -> None:
    body, headers = binary(inputs, packed(*data))
    if head is not None:
        headers["Inference-Header-Content-Length"] = str(head)
    check_outcome(uncached, *send(uncached, INFER, body, headers))


@ARBITRARY
@given(
    inputs=st.lists(st.tuples(NAMES, SHAPES, st.sampled_from(["BYTES", "INT32", "", "x"])), max_size=4),
    raw=st.lists(
        st.lists(st.binary(max_size=20), max_size=4).map(lambda ids: packed(*ids)) | st.binary(), max_size=5
    ),
    version=st.sampled_from(["", "1", "0", "-1", "x", "9" * 30]),
)
def test_arbitrary_grpc_tensors_are_survived(
    uncached: Live, inputs: list[tuple[Any, ...]], raw: list[bytes], version: str
) -> None:
    code, text = send_grpc(uncached, grpc_request(*inputs, raw=raw, model_version=version))
    check_outcome(uncached, 404 if code == "NOT_FOUND" else code, text)
