"""Toy models in Triton's repository layout, small enough to work out their answers by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
INT64 = TensorProto.INT64
STRING = TensorProto.STRING

Signature = dict[str, tuple[int, Sequence[int | str | None]]]


def write_model(
    repository: Path, name: str, graph: onnx.GraphProto, config: str = "", file: str = "model.onnx"
) -> None:
    """Lay `graph` and its config out as version 1 of the model `name`."""
    version = repository / name / "1"
    version.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(onnx.shape_inference.infer_shapes(model), version / file)
    (repository / name / "config.pbtxt").write_text('backend: "onnxruntime"\n' + dedent(config))


def write_python_model(repository: Path, name: str, source: str) -> None:
    """Lay a Python model with one STRING input `x` and output `y` out as version 1 of the model `name`."""
    version = repository / name / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(dedent(source))
    (repository / name / "config.pbtxt").write_text(
        'backend: "python"\n'
        'input { name: "x" data_type: TYPE_STRING dims: [ -1 ] }\n'
        'output { name: "y" data_type: TYPE_STRING dims: [ -1 ] }\n'
        "instance_group { kind: KIND_CPU count: 1 }\n"
    )


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Signature,
    outputs: Signature,
    constants: dict[str, np.ndarray] | None = None,
) -> onnx.GraphProto:
    """Return a graph; a dimension given as a string is open."""
    return helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info(name, *io) for name, io in inputs.items()],
        [helper.make_tensor_value_info(name, *io) for name, io in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )


def identity(data_type: int = FLOAT, shape: Sequence[int | str | None] = ("n", 3)) -> onnx.GraphProto:
    """`y = x`."""
    return graph(
        [helper.make_node("Identity", ["x"], ["y"])], {"x": (data_type, shape)}, {"y": (data_type, shape)}
    )


def lookup(table: Sequence[str]) -> onnx.GraphProto:
    """`words[n, 2] = table[rows[n, 2]]`: a row outside the table makes ONNX Runtime fail the whole batch."""
    return graph(
        [helper.make_node("Gather", ["table", "rows"], ["words"])],
        {"rows": (INT64, ("n", 2))},
        {"words": (STRING, ("n", 2))},
        {"table": np.array(table, dtype=object)},
    )
