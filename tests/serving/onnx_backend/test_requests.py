"""Requests to the `onnxruntime` backends: answers, batches, refusals, and the end of a server."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from onnx import helper
from tritonclient.utils import InferenceServerException

from operations.server.control_secret import GRPC_HEADER
from tests.building.toy_models import FLOAT, STRING, graph, identity, lookup, write_model
from tests.running import needs
from tests.running.toy_server import ONE_INSTANCE, Toys

pytestmark = [pytest.mark.triton, pytest.mark.timeout(60)]

BATCH_OF_3 = """
    max_batch_size: 8
    dynamic_batching { preferred_batch_size: 3 max_queue_delay_microseconds: 5000000 }
"""


def test_every_data_type_passes_through_unchanged(toys: Toys) -> None:
    """Each of Triton's types, except BF16, arrives in the graph and comes back bit for bit."""
    arrays = {
        "BOOL": np.array([[True, False, True]]),
        "STRING": np.array([["", "café", "a b"]], dtype=object),
    }
    for bits in (8, 16, 32, 64):
        arrays[f"INT{bits}"] = np.array([[-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 7]], dtype=f"int{bits}")
        arrays[f"UINT{bits}"] = np.array([[0, 2**bits - 1, 7]], dtype=f"uint{bits}")
    for bits in (16, 32, 64):
        arrays[f"FP{bits}"] = np.array([[0.1, -np.inf, np.finfo(f"float{bits}").max]], dtype=f"float{bits}")
    types = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in arrays.items()}
    model = graph(
        [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in types],
        {f"in_{name}": (data_type, ("n", 3)) for name, data_type in types.items()},
        {f"out_{name}": (data_type, ("n", 3)) for name, data_type in types.items()},
    )
    toys.load("every_type", model, ONE_INSTANCE)

    answer = toys.infer("every_type", **{f"in_{name}": array for name, array in arrays.items()})

    arrays["STRING"] = np.array([[b"", "café".encode(), b"a b"]], dtype=object)
    for name, array in arrays.items():
        assert answer[f"out_{name}"].dtype == array.dtype
        np.testing.assert_array_equal(answer[f"out_{name}"], array)


def test_a_batch_of_requests_is_one_run_with_the_answers_of_the_library(toys: Toys) -> None:
    """Requests of 1, 2 and 3 rows share a run of 6; each gets the rows that the library gives in process."""
    model = graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["z"]),
            helper.make_node("Softmax", ["z"], ["y"]),
            helper.make_node("ReduceSum", ["x", "all"], ["size"], keepdims=1),
            helper.make_node("Shape", ["x"], ["rows"], end=1),
            helper.make_node("Mul", ["zero", "size"], ["zeros"]),
            helper.make_node("Cast", ["rows"], ["count"], to=FLOAT),
            helper.make_node("Add", ["zeros", "count"], ["batch"]),
        ],
        {"x": (FLOAT, ("n", 3))},
        {"y": (FLOAT, ("n", 5)), "batch": (FLOAT, ("n", 1))},
        {
            "w": np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32),
            "all": np.array([1]),
            "zero": np.array([0], np.float32),
        },
    )
    one_batch = """
        max_batch_size: 8
        dynamic_batching { preferred_batch_size: 6 max_queue_delay_microseconds: 5000000 }
    """
    toys.load("softmax", model, one_batch + ONE_INSTANCE)
    rows = [np.random.default_rng(n).normal(size=(n, 3)).astype(np.float32) for n in (1, 2, 3)]

    answers = [future.result(timeout=20) for future in [toys.infer_later("softmax", x=x) for x in rows]]

    for x, answer in zip(rows, answers, strict=True):
        np.testing.assert_allclose(answer["y"], toys.in_process("softmax", x=x)["y"], rtol=1e-6)
        assert answer["batch"].tolist() == [[6]] * len(x)


def test_a_request_that_fails_leaves_the_others_of_its_batch_alone(toys: Toys) -> None:
    """A row outside the table fails its own request, as INVALID_ARGUMENT; its neighbours are answered."""
    toys.load("lookup", lookup(["milk", "bread", "tea"]), BATCH_OF_3 + ONE_INSTANCE)
    first = toys.infer_later("lookup", rows=np.array([[0, 1]]))
    bad = toys.infer_later("lookup", rows=np.array([[1, 99]]))
    last = toys.infer_later("lookup", rows=np.array([[2, 2]]))

    assert first.result(timeout=20)["words"].tolist() == [[b"milk", b"bread"]]
    assert last.result(timeout=20)["words"].tolist() == [[b"tea", b"tea"]]
    with pytest.raises(InferenceServerException, match="out of data bounds") as raised:
        bad.result(timeout=20)
    assert raised.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert toys.executions("lookup", requests=3) == 1  # they did share a batch


def test_bytes_that_are_not_utf8_are_refused_for_their_request_alone(toys: Toys) -> None:
    """ONNX strings are text: other bytes are an INVALID_ARGUMENT that names the input and the bytes."""
    toys.load("text", identity(STRING, ("n", 1)), BATCH_OF_3 + ONE_INSTANCE)
    good, bad, empty = (
        toys.infer_later("text", x=np.array([[value]], dtype=object))
        for value in (b"caf\xc3\xa9", b"\xff", b"")
    )

    assert good.result(timeout=20)["y"].tolist() == [[b"caf\xc3\xa9"]]
    assert empty.result(timeout=20)["y"].tolist() == [[b""]]
    with pytest.raises(
        InferenceServerException, match=r"input 'x' holds b'\\xff', which is not UTF-8"
    ) as raised:
        bad.result(timeout=20)
    assert raised.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_strings_that_are_cut_off_are_refused_and_the_server_lives(toys: Toys) -> None:
    """The sender writes the lengths inside a tensor, so the backend checks each."""
    toys.load("one_text", identity(STRING, ("n", 1)), ONE_INSTANCE)
    for sent, reason in (
        (b"\x05\x00\x00\x00milk", "string"),  # four letters of five
        (b"\xff\xff\xff\xffmilk", "string"),
        (b"\x04\x00\x00\x00milk\x01", "string"),  # a second one begins
        (b"\x01\x00\x00\x00a\x01\x00\x00\x00b", "elements"),  # two where one was announced
    ):
        tensor = triton.InferInput("x", [1, 1], "BYTES")
        tensor._raw_content = sent
        with pytest.raises(InferenceServerException, match=reason) as raised:
            toys.client.infer("one_text", [tensor])
        assert raised.value.status() == "StatusCode.INVALID_ARGUMENT"

    assert toys.infer("one_text", x=np.array([["tea"]], dtype=object))["y"].tolist() == [[b"tea"]]


def test_what_is_shown_of_a_long_string_fits_into_an_error(toys: Toys) -> None:
    """gRPC drops an answer whose error is too long, and the client would get no reason."""
    toys.load("long_text", identity(STRING, ("n", 1)), ONE_INSTANCE)

    with pytest.raises(InferenceServerException, match=r"holds b'(\\xff)+', which is not UTF-8") as raised:
        toys.infer("long_text", x=np.array([[b"\xff" * 100_000]], dtype=object))
    assert raised.value.status() == "StatusCode.INVALID_ARGUMENT"


@pytest.mark.parametrize("name", ['a"b', "a\\b", 'a\\"b', "a\nb", "é<\x7f>"], ids=ascii)
def test_any_name_of_a_tensor_is_found(toys: Toys, name: str) -> None:
    """Names come from the graph. The config in JSON escapes them, both as read and as completed."""
    model = graph(
        [helper.make_node("Identity", [name], ["y"])], {name: (FLOAT, ("n", 3))}, {"y": (FLOAT, ("n", 3))}
    )
    escapes = r'parameters { key: "\"\\" value { string_value: "\001\t\n" } }' + "\n"
    toys.load(f"named_{name.encode().hex()}", model, escapes + ONE_INSTANCE)

    answer = toys.infer(f"named_{name.encode().hex()}", **{name: np.ones((1, 3), np.float32)})

    assert answer["y"].tolist() == [[1, 1, 1]]


def test_a_model_that_does_not_batch_counts_requests(toys: Toys) -> None:
    """The first axis is not a batch of rows."""
    toys.load("rows_of_its_own", identity(shape=(2, 3)), ONE_INSTANCE)
    toys.infer("rows_of_its_own", x=np.ones((2, 3), np.float32))
    assert toys.executions("rows_of_its_own", requests=1) == 1

    (model,) = toys.client.get_inference_statistics("rows_of_its_own").model_stats

    assert [batch.batch_size for batch in model.batch_stats] == [1]


def test_models_come_and_go_while_others_answer(toys: Toys) -> None:
    """An instance that ends closes its own session and no other."""
    allowed = {GRPC_HEADER: toys.server.settings.control_secret}
    toys.load("stays", identity(), ONE_INSTANCE)
    write_model(toys.repository, "comes", identity(shape=("n", 7)), ONE_INSTANCE)
    for _ in range(3):
        toys.client.load_model("comes", headers=allowed)
        assert toys.infer("comes", x=np.ones((1, 7), np.float32))["y"].tolist() == [[1] * 7]
        toys.client.unload_model("comes", headers=allowed)

    assert toys.infer("stays", x=np.ones((1, 3), np.float32))["y"].tolist() == [[1] * 3]


@pytest.mark.alone  # beside other tests the exit is slow, and ONNX Runtime's statics may end under the model
def test_a_server_that_ends_while_a_model_runs_does_not_crash(
    start_server: Callable[..., Any], tmp_path: Path
) -> None:
    """tritonserver exits at the end of the drain; models that still run need ONNX Runtime until then."""
    needs.the_compiled_backend()
    products = [helper.make_node("MatMul", [f"x{i or ''}", "w"], [f"x{i + 1}"]) for i in range(3000)]  # > 5 s
    toys = Toys(tmp_path, start_server(tmp_path, models=(), drain_s=1))
    toys.load(
        "slow",
        graph(
            products,
            {"x": (FLOAT, ("n", 512))},
            {"x3000": (FLOAT, ("n", 512))},
            {"w": np.eye(512, dtype=np.float32)},
        ),
        "max_batch_size: 512\n" + ONE_INSTANCE,
    )
    later = [toys.infer_later("slow", x=np.ones((512, 512), np.float32)) for _ in range(4)]
    time.sleep(0.3)

    toys.server.stop(grace_s=20)

    assert toys.server.exit_code == 1, toys.server.log_tail  # "Exit timeout expired"; -11: it crashed
    assert all(future.exception(timeout=20) for future in later)


def test_only_the_outputs_asked_for_come_back(toys: Toys) -> None:
    """Two requests of one batch ask for different outputs and get those."""
    model = graph(
        [helper.make_node("Neg", ["x"], ["minus"]), helper.make_node("Abs", ["x"], ["size"])],
        {"x": (FLOAT, ("n", 1))},
        {"minus": (FLOAT, ("n", 1)), "size": (FLOAT, ("n", 1))},
    )
    pairs = """
        max_batch_size: 8
        dynamic_batching { preferred_batch_size: 2 max_queue_delay_microseconds: 5000000 }
    """
    toys.load("two_outputs", model, pairs + ONE_INSTANCE)
    minus = toys.infer_later("two_outputs", ["minus"], x=np.array([[-2]], np.float32))
    size = toys.infer_later("two_outputs", ["size"], x=np.array([[-3]], np.float32))

    assert minus.result(timeout=20) == {"minus": np.float32(2)}
    assert size.result(timeout=20) == {"size": np.float32(3)}


def test_a_graph_without_a_batch_axis_answers_each_request_by_itself(toys: Toys) -> None:
    """`max_batch_size` is 0 and dims are the graph's own; scalars are dims [ 1 ]."""
    model = graph(
        [
            helper.make_node("Mul", ["x", "factor"], ["y"]),
            helper.make_node("ReduceSum", ["y"], ["sum"], keepdims=0),
        ],
        {"x": (FLOAT, (2,)), "factor": (FLOAT, ())},
        {"y": (FLOAT, (2,)), "sum": (FLOAT, ())},
    )
    toys.load("no_batch", model, ONE_INSTANCE)

    answer = toys.infer("no_batch", x=np.array([1, 2], np.float32), factor=np.array([3], np.float32))

    assert answer["y"].tolist() == [3, 6]
    assert answer["sum"].tolist() == [9]


def test_an_optional_input_falls_back_to_the_graphs_own_value(toys: Toys) -> None:
    """An initializer that is also an input may be sent or left out."""
    model = graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        {"x": (FLOAT, (2,)), "factor": (FLOAT, (1,))},
        {"y": (FLOAT, (2,))},
        {"factor": np.array([10], np.float32)},
    )
    config = """
        input [ { name: "x" data_type: TYPE_FP32 dims: [ 2 ] },
                { name: "factor" data_type: TYPE_FP32 dims: [ 1 ] optional: true } ]
        output { name: "y" data_type: TYPE_FP32 dims: [ 2 ] }
    """
    toys.load("default_factor", model, config + ONE_INSTANCE)
    x = np.array([1, 2], np.float32)

    assert toys.infer("default_factor", x=x)["y"].tolist() == [10, 20]
    assert toys.infer("default_factor", x=x, factor=np.array([2], np.float32))["y"].tolist() == [2, 4]
