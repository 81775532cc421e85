"""What users of cesta_client rely on: its names, its few dependencies, and the server's contract."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
import tomllib

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

import cesta_client
from cesta_client import _limits, _wire
from operations.records.contract import read_contract
from tests import ROOT

SOURCE = ROOT / "client" / "src"


def model_config(name):
    text = (ROOT / "model_repository" / name / "config.pbtxt").read_text(encoding="utf-8")
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_the_public_names_are_these():
    assert sorted(cesta_client.__all__) == [
        "AnswerWarning",
        "AsyncRecommender",
        "AsyncTransport",
        "Availability",
        "CestaError",
        "EventsStatus",
        "InvalidRequest",
        "Query",
        "Reason",
        "Recommendation",
        "Recommendations",
        "Recommender",
        "Reply",
        "ServerError",
        "StockChange",
        "Throttled",
        "TimedOut",
        "Transport",
        "Unauthorized",
        "Unavailable",
        "__version__",
    ]
    assert importlib.import_module("cesta_client.testing").__all__ == ["FakeShop", "SeenRequest"]


def test_every_public_name_is_documented():
    undocumented = [name for name in cesta_client.__all__ if not getattr(cesta_client, name).__doc__]
    assert undocumented == []


def test_no_other_module_is_public():
    modules = {path.stem for path in (SOURCE / "cesta_client").iterdir() if path.suffix in ("", ".py")}
    assert {name for name in modules if not name.startswith("_")} == {"testing"}


@pytest.mark.parametrize(
    "method",
    ["__init__", "recommend", "recommend_many", "is_ready", "purchased", "returned", "set_availability"],
)
def test_both_clients_take_the_same_options(method):
    sync, alike = (
        inspect.signature(getattr(kind, method))
        for kind in (cesta_client.Recommender, cesta_client.AsyncRecommender)
    )
    assert list(sync.parameters) == list(alike.parameters)
    assert [p.default for p in sync.parameters.values()] == [p.default for p in alike.parameters.values()]


def test_the_error_tree_is_flat_and_drawn_in_one_docstring():
    errors = cesta_client.CestaError.__subclasses__()
    assert {error.__name__ for error in errors} == {
        "InvalidRequest",
        "Unauthorized",
        "Throttled",
        "Unavailable",
        "TimedOut",
        "ServerError",
    }
    drawn = importlib.import_module("cesta_client._errors").__doc__
    assert all(error.__name__ in drawn for error in errors)
    assert {error.__module__ for error in errors} == {"cesta_client"}


def test_inputs_and_outputs_are_those_of_the_recommender():
    config = model_config(_wire.MODEL)
    triton_names = {"TYPE_STRING": "BYTES", "TYPE_FP32": "FP32", "TYPE_INT32": "INT32"}

    def of(tensors):
        return {t.name: triton_names[model_config_pb2.DataType.Name(t.data_type)] for t in tensors}

    assert of(config.input) == _wire.INPUTS
    assert of(config.output) == _wire.OUTPUTS
    assert all(tensor.optional for tensor in config.input)  # the client leaves out what is not used


def test_the_limits_are_those_of_the_server():
    config = model_config(_wire.MODEL)
    assert config.max_batch_size == _limits.MAX_BATCH
    assert {tuple(output.dims) for output in config.output if output.name != "digest"} == {(_limits.MAX_K,)}
    assert read_contract().basket_slots == _limits.MAX_BASKET


def test_a_request_leaves_room_in_the_gateway_s_body():
    """The room is for names, shapes, and a request id whose 128 bytes are escaped as JSON."""
    limits = (ROOT / "deploy" / "gateway" / "limits.conf").read_text()
    (body,) = re.findall(r"client_max_body_size (\d+)k;", limits)
    assert int(body) * 1024 - _limits.MAX_TENSOR_BYTES >= 2048


def test_the_limits_on_ids_are_those_of_the_sampler():
    theirs = _constants(ROOT / "ensemble" / "candidate_sampler" / "query.py")
    client_limits = {
        name: value for name, value in vars(_limits).items() if name in theirs and name.startswith("MAX_")
    }
    assert client_limits == theirs


def test_the_reasons_are_those_of_the_sampler():
    theirs = _constants(ROOT / "ensemble" / "candidate_sampler" / "sources.py")
    assert {reason.name: reason.value for reason in cesta_client.Reason} == theirs


def _constants(path):
    """Whole-number constants of a module that is read, not imported: the client imports nothing of the
    server.
    """
    constants = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Constant):
            constants[node.target.id] = node.value.value
    return constants


ISOLATED = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "pandas", "scipy", "ensemble", "export_scripts", "pytest"}:
            raise ImportError(f"cesta_client may not import {name}")

sys.meta_path.insert(0, Refuse())
sys.path.insert(0, sys.argv[1])
import cesta_client
from cesta_client.testing import FakeShop
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"grpc", "aiohttp", "gevent"}, "a protocol was imported before it was asked for"

for protocol in ("grpc", "http"):
    cesta_client.Recommender("localhost:8001", protocol=protocol).close()
    cesta_client.AsyncRecommender("localhost:8001", protocol=protocol)
answer = cesta_client.Recommender(transport=FakeShop({"milk": ["bread"]})).recommend(["milk"])
print(answer[0].item_id)
"""


def test_the_client_works_alone():
    """It runs without torch, pandas and the rest of this repository; -I hides the working folder."""
    command = [sys.executable, "-I", "-W", "error", "-c", ISOLATED, SOURCE]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout, run.stderr) == (0, "bread\n", "")


def test_it_depends_on_numpy_and_tritonclient_only():
    project = tomllib.loads((ROOT / "client" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [need.partition(">")[0] for need in project["dependencies"]] == [
        "numpy",
        "tritonclient[grpc,http]",
    ]


def test_it_imports_nothing_but_its_dependencies_and_the_standard_library():
    """aiohttp comes with tritonclient[http], grpc with tritonclient[grpc]."""
    imported = {
        name.partition(".")[0]
        for path in (SOURCE / "cesta_client").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in _imports(node)
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy", "tritonclient", "aiohttp", "grpc"}


def _imports(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []


def test_it_is_marked_as_typed():
    assert (SOURCE / "cesta_client" / "py.typed").is_file()
