"""Triton's `onnxruntime` backend, written in Python. It serves any ONNX model where there is no C++ backend.

A server copies it to `<backend-directory>/onnxruntime/model.py`. Triton finds it by `backend: "onnxruntime"`.

A config means the same as in NVIDIA's C++ backend (https://github.com/triton-inference-server/onnxruntime_backend).
This backend refuses every config that NVIDIA's refuses at load. It also refuses sequence batching, ragged
batches, batch inputs and outputs, execution accelerators, and a scalar in a model that batches.

Each instance is a process. Its requests run as one batch if their shapes allow it. If ONNX Runtime fails on a
request, only that request gets an error.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

_MAX_BATCH_SIZE = 4  # the C++ backend's default, too (--backend-config=default-max-batch-size)
_UNKNOWN = -1  # a dimension that the graph leaves open

_DATA_TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(string)": "TYPE_STRING",
}
_GRAPH_LEVELS = {  # by the config's optimization.graph.level; any other value enables everything
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
_NOT_SERVED = ("sequence_batching", "batch_input", "batch_output")

Config = Mapping[str, Any]
Arrays = dict[str, np.ndarray[Any, Any]]


class RefusedModelError(ValueError):
    """The model cannot be served with this config. Triton shows the text and does not load the model."""


@dataclass(frozen=True)
class GraphTensor:
    """An input or output of the ONNX graph, with Triton's name for its data type."""

    name: str
    data_type: str  # for example TYPE_FP32
    shape: list[int]  # with the batch axis

    @property
    def has_batch_axis(self) -> bool:
        """Tell whether the first dimension is open, which batching needs."""
        return self.shape[:1] == [_UNKNOWN]


class Call(NamedTuple):
    """One decoded request."""

    place: int  # index among the requests of this execute()
    inputs: Arrays
    outputs: list[str]
    shapes: frozenset[object]  # of the inputs, without the batch axis; equal ones run together

    @property
    def rows(self) -> int:
        return len(next(iter(self.inputs.values())))


class TritonPythonModel:
    """One instance of one ONNX model. Triton's Python backend loads this class."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Complete the inputs, outputs and batching that config.pbtxt leaves out."""
        given: Config = config.as_dict()
        if given["input"] and given["output"]:
            return config
        options = ort.SessionOptions()
        # Only the graph's inputs and outputs matter here.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = _open(_model_file(Path(pb_utils.get_model_dir()), given), options, ["CPUExecutionProvider"])
        inputs, outputs = _signature(session, given["name"])
        _complete_batching(config, [*inputs.values(), *outputs.values()])
        for key, tensors in (("input", inputs), ("output", outputs)):
            if not given[key]:
                given[key].extend(_io_config(tensor, given["max_batch_size"]) for tensor in tensors.values())
        return config

    def initialize(self, args: Mapping[str, str]) -> None:
        """Open the model and check its config against the graph. Raises `RefusedModelError`."""
        config: Config = json.loads(args["model_config"])
        name = args["model_name"]
        folder = Path(args["model_repository"], args["model_version"])
        providers = _providers(args["model_instance_kind"], args["model_instance_device_id"], name)
        self._session = _open(_model_file(folder, config), _session_options(config), providers)
        self._run_options = _run_options(config)
        self._batches = config["max_batch_size"] > 0
        self._scalars = _check(config, self._session)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer every request. Requests of equal shapes share one run of the session."""
        answers: list[Any] = [None] * len(requests)
        groups: dict[object, list[Call]] = defaultdict(list)
        for index, request in enumerate(requests):
            try:
                call = self._decode(index, request)
                groups[call.shapes if self._batches else index].append(call)
            except ValueError as error:
                answers[index] = _failure(error)
        for calls in groups.values():
            for call, answer in zip(calls, self._answers(calls), strict=True):
                answers[call.place] = answer
        return answers

    def _decode(self, index: int, request: Any) -> Call:
        inputs: Arrays = {}
        shapes: list[object] = []
        for tensor in request.inputs():
            name, array = tensor.name(), tensor.as_numpy()
            if array.dtype.hasobject:
                array = _decoded(name, array)
            elif name in self._scalars:
                array = array.reshape(())
            inputs[name] = array
            shapes.append((name, array.shape[1:]))
        return Call(index, inputs, list(request.requested_output_names()), frozenset(shapes))

    def _answers(self, calls: list[Call]) -> list[Any]:
        try:
            return self._run(calls)
        except Exception as error:  # ONNX Runtime's errors have no narrower common class
            if len(calls) == 1:
                return [_failure(error)]
            half = len(calls) // 2  # 12 runs find one bad request among 64
            return self._answers(calls[:half]) + self._answers(calls[half:])

    def _run(self, calls: list[Call]) -> list[Any]:
        """Run `calls`, which have equal shapes, as one batch. Raises the errors of ONNX Runtime."""
        inputs = calls[0].inputs
        if len(calls) > 1:
            inputs = {name: np.concatenate([call.inputs[name] for call in calls]) for name in inputs}
        names = sorted(set().union(*(call.outputs for call in calls)))
        arrays = dict(zip(names, self._session.run(names, inputs, self._run_options), strict=True))
        if not self._batches:
            return [_success(arrays, self._scalars)]
        ends = np.cumsum([call.rows for call in calls])
        for name, array in arrays.items():
            if len(array) != ends[-1]:
                raise ValueError(f"output '{name}' has {len(array)} rows for a batch of {ends[-1]}")
        return [
            _success({name: arrays[name][end - call.rows : end] for name in call.outputs}, self._scalars)
            for call, end in zip(calls, ends, strict=True)
        ]


def _decoded(name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Decode an array of UTF-8 bytes into strings, in the same shape."""
    try:
        strings = [value.decode() for value in array.ravel()]
    except UnicodeDecodeError as error:
        raise ValueError(f"input '{name}' holds {error.object[:100]!r}, which is not UTF-8") from None
    return np.array(strings, dtype=np.object_).reshape(array.shape)


def _success(arrays: Arrays, scalars: frozenset[str]) -> Any:
    tensors = [
        pb_utils.Tensor(name, array.reshape(1) if name in scalars else array)
        for name, array in arrays.items()  # contiguous: whole arrays of ONNX Runtime, or rows of them
    ]
    return pb_utils.InferenceResponse(output_tensors=tensors)


def _failure(error: Exception) -> Any:
    of_the_request = isinstance(error, ValueError) or type(error).__name__ == "InvalidArgument"
    code = pb_utils.TritonError.INVALID_ARG if of_the_request else pb_utils.TritonError.INTERNAL
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), code))


def _model_file(folder: Path, config: Config) -> Path:
    path = folder / (config["default_model_filename"] or "model.onnx")
    path = path / "model.onnx" if path.is_dir() else path
    if not path.is_file():
        raise RefusedModelError(f"model '{config['name']}': there is no {path}")
    return path


def _open(path: Path, options: Any, providers: list[Any]) -> Any:
    return ort.InferenceSession(str(path), options, providers=providers)


def _providers(kind: str, device: str, model: str) -> list[Any]:
    if kind != "GPU":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise RefusedModelError(
            f"model '{model}': instance_group asks for KIND_GPU and this onnxruntime runs on CPU only; "
            "set kind: KIND_CPU or install onnxruntime-gpu in the serving environment"
        )
    return [("CUDAExecutionProvider", {"device_id": int(device)}), "CPUExecutionProvider"]


def _session_options(config: Config) -> Any:
    options = ort.SessionOptions()
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    options.graph_optimization_level = _GRAPH_LEVELS.get(level, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    mode = _integer(config, "execution_mode")
    if mode not in (0, 1):
        raise RefusedModelError(
            f"model '{config['name']}': parameter execution_mode is {mode}; expected 0 or 1 (parallel)"
        )
    options.execution_mode = ort.ExecutionMode.ORT_PARALLEL if mode else ort.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = max(0, _integer(config, "intra_op_thread_count"))  # 0: one per core
    options.inter_op_num_threads = max(0, _integer(config, "inter_op_thread_count"))
    options.enable_cpu_mem_arena = _boolean(config, "enable_mem_arena")
    options.enable_mem_pattern = _boolean(config, "enable_mem_pattern")
    _copy_entry(config, "session.use_device_allocator_for_initializers", options.add_session_config_entry)
    return options


def _run_options(config: Config) -> Any:
    options = ort.RunOptions()
    _copy_entry(config, "memory.enable_memory_arena_shrinkage", options.add_run_config_entry)
    return options


def _copy_entry(config: Config, key: str, add: Any) -> None:
    if (text := _parameter(config, key)) is not None:
        add(key, text)


def _parameter(config: Config, key: str) -> str | None:
    entry = config.get("parameters", {}).get(key)
    return None if entry is None else entry["string_value"]


def _integer(config: Config, key: str) -> int:
    text = _parameter(config, key)
    if text is None:
        return 0
    if not re.fullmatch("-?[0-9]{1,9}", text):
        raise RefusedModelError(
            f"model '{config['name']}': parameter {key} is \"{text}\"; expected an integer"
        )
    return int(text)


def _boolean(config: Config, key: str) -> bool:
    given = _parameter(config, key)
    text = "true" if given is None else given.lower()
    if text not in ("true", "on", "1", "false", "off", "0"):
        raise RefusedModelError(
            f"model '{config['name']}': parameter {key} is \"{text}\"; expected true or false"
        )
    return text in ("true", "on", "1")


def _signature(session: Any, model: str) -> tuple[dict[str, GraphTensor], dict[str, GraphTensor]]:
    return _tensors(session.get_inputs(), model), _tensors(session.get_outputs(), model)


def _tensors(nodes: Iterable[Any], model: str) -> dict[str, GraphTensor]:
    tensors = {}
    for node in nodes:
        if node.type not in _DATA_TYPES:
            raise RefusedModelError(
                f"model '{model}', tensor '{node.name}': the graph has {node.type}; "
                f"expected one of {', '.join(_DATA_TYPES)}"
            )
        shape = [size if isinstance(size, int) else _UNKNOWN for size in node.shape]
        tensors[node.name] = GraphTensor(node.name, _DATA_TYPES[node.type], shape)
    return tensors


def _complete_batching(config: Any, tensors: Iterable[GraphTensor]) -> None:
    given: Config = config.as_dict()
    if not all(tensor.has_batch_axis for tensor in tensors):
        if given["max_batch_size"] > 0:
            fixed = ", ".join(
                f"'{tensor.name}' {tensor.shape}" for tensor in tensors if not tensor.has_batch_axis
            )
            raise RefusedModelError(
                f"model '{given['name']}': max_batch_size is {given['max_batch_size']} and the batch axis "
                f"of {fixed} is fixed; expected -1"
            )
        return
    if given["max_batch_size"] == 0:
        config.set_max_batch_size(_MAX_BATCH_SIZE)
    if given["max_batch_size"] > 1 and "sequence_batching" not in given:
        config.set_dynamic_batching()


def _io_config(tensor: GraphTensor, max_batch_size: int) -> dict[str, Any]:
    dims = tensor.shape[1:] if max_batch_size > 0 else tensor.shape
    io: dict[str, Any] = {"name": tensor.name, "data_type": tensor.data_type, "dims": dims or [1]}
    if not dims and max_batch_size > 0:
        io["reshape"] = {"shape": []}
    return io


def _check(config: Config, session: Any) -> frozenset[str]:
    """Check `config` against the graph; return the names of the scalars. Raises `RefusedModelError`."""
    model, max_batch_size = config["name"], config["max_batch_size"]
    inputs, outputs = _signature(session, model)
    _check_served(config)
    required = [io for io in config["input"] if not io.get("optional")]
    if len(required) != len(inputs):
        raise RefusedModelError(
            f"model '{model}': config.pbtxt has {len(required)} inputs that are not optional; expected "
            f"{len(inputs)}: {', '.join(inputs)}"
        )
    accepted = inputs | _tensors(session.get_overridable_initializers(), model)
    for io in config["input"]:
        _check_io(model, "input", io, accepted, max_batch_size)
    for io in config["output"]:
        _check_io(model, "output", io, outputs, max_batch_size)
    return frozenset(name for name, tensor in (accepted | outputs).items() if not tensor.shape)


def _check_served(config: Config) -> None:
    refused = [key for key in _NOT_SERVED if config.get(key)]
    if config.get("optimization", {}).get("execution_accelerators"):
        refused.append("execution_accelerators")
    for io in config["input"]:
        if io.get("allow_ragged_batch"):
            refused.append(f"allow_ragged_batch of '{io['name']}'")
        if io.get("optional") and config["max_batch_size"] > 0:  # NVIDIA's backend refuses it, too
            refused.append(f"optional input '{io['name']}' in a model that batches")
    if refused:
        raise RefusedModelError(f"model '{config['name']}': this backend does not serve {', '.join(refused)}")


def _check_io(
    model: str, kind: str, io: Config, graph: Mapping[str, GraphTensor], max_batch_size: int
) -> None:
    where = f"model '{model}', {kind} '{io['name']}'"
    tensor = graph.get(io["name"])
    if tensor is None:
        raise RefusedModelError(f"{where}: not in the graph; expected one of {', '.join(graph)}")
    if io["data_type"] != tensor.data_type:
        raise RefusedModelError(
            f"{where}: data_type is {io['data_type']}; expected the graph's {tensor.data_type}"
        )
    if max_batch_size > 0 and not tensor.has_batch_axis:
        raise RefusedModelError(
            f"{where}: max_batch_size is {max_batch_size} and the graph's shape is {tensor.shape}; "
            "expected a first dimension of -1"
        )
    dims = [int(size) for size in (io["reshape"]["shape"] if "reshape" in io else io["dims"])]
    expected = tensor.shape[1:] if max_batch_size > 0 else tensor.shape
    if not _dims_agree(dims, expected, exact=kind == "output"):
        raise RefusedModelError(f"{where}: dims are {dims}; expected the graph's {expected}")


def _dims_agree(dims: list[int], expected: list[int], *, exact: bool) -> bool:
    if not expected and all(size == 1 for size in dims):
        return True
    return len(dims) == len(expected) and all(
        size == graph or (graph == _UNKNOWN and not exact) for size, graph in zip(dims, expected, strict=True)
    )
