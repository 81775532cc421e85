"""A model's config: the parts that the `onnxruntime` backends complete from the graph or obey."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from tests.building.toy_models import FLOAT, graph, identity
from tests.running.toy_server import ONE_INSTANCE, Toys

pytestmark = [pytest.mark.triton, pytest.mark.timeout(60)]


def test_a_config_without_tensors_is_completed_from_the_graph(toys: Toys) -> None:
    """Names, types and dims come from the graph; open batch axes bring batching, as in the C++ backend."""
    model = graph(
        [
            helper.make_node("Identity", ["x"], ["y"]),
            helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=0),
        ],
        {"x": (FLOAT, ("n", "m", 3))},
        {"y": (FLOAT, ("n", "m", 3)), "sum": (FLOAT, ("n",))},
        {"axes": np.array([1, 2])},
    )
    toys.load("completed", model, ONE_INSTANCE)

    config = toys.client.get_model_config("completed", as_json=True)["config"]

    assert config["max_batch_size"] == 4
    assert "dynamic_batching" in config
    assert [(io["name"], io["data_type"], io["dims"]) for io in config["input"]] == [
        ("x", "TYPE_FP32", ["-1", "3"])
    ]
    assert [(io["name"], io["dims"]) for io in config["output"]] == [("y", ["-1", "3"]), ("sum", ["1"])]
    assert toys.infer("completed", x=np.ones((2, 2, 3), np.float32))["sum"].tolist() == [[6], [6]]


def test_a_completed_config_keeps_what_was_written(toys: Toys) -> None:
    """Batch size and tensors of config.pbtxt stay; the backend adds only the missing half."""
    written = """
        max_batch_size: 2
        input { name: "x" data_type: TYPE_FP32 dims: [ 3 ] }
    """
    toys.load("half_written", identity(), written + ONE_INSTANCE)

    config = toys.client.get_model_config("half_written", as_json=True)["config"]

    assert config["max_batch_size"] == 2
    assert [io["name"] for io in config["output"]] == ["y"]


def test_a_graph_with_a_fixed_first_axis_is_completed_without_batching(toys: Toys) -> None:
    """One tensor that cannot grow is enough to rule batching out."""
    toys.load("fixed", identity(shape=(2, 3)), ONE_INSTANCE)

    config = toys.client.get_model_config("fixed", as_json=True)["config"]

    assert config.get("max_batch_size", 0) == 0
    assert config["input"][0]["dims"] == ["2", "3"]
    assert "dynamic_batching" not in config


def test_another_file_name_is_found(toys: Toys) -> None:
    """`default_model_filename` names the file in the version folder."""
    toys.load("renamed", identity(), 'default_model_filename: "other.onnx"\n' + ONE_INSTANCE, "other.onnx")

    assert toys.infer("renamed", x=np.array([[1, 2, 3]], np.float32))["y"].tolist() == [[1, 2, 3]]


def test_intra_op_thread_count_is_the_number_of_threads(toys: Toys) -> None:
    """ONNX Runtime adds a pool of n - 1 threads for an instance."""
    added = []
    for name, count in (("one_thread", 1), ("four_threads", 4)):
        parameter = f'parameters {{ key: "intra_op_thread_count" value {{ string_value: "{count}" }} }}\n'
        before = toys.threads()
        toys.load(name, identity(), parameter + ONE_INSTANCE)
        added.append(toys.threads() - before)

    assert added[1] - added[0] == 3
