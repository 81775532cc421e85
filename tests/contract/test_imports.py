"""The packages that each folder may import; importing a module has no side effect."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

OWN = {"cesta_client", "ensemble", "operations", "export_scripts", "loadtests", "deploy", "tests"}
TRITONS = {"triton_python_backend_utils", "c_python_backend_utils"}  # given by the stub, in no package

TRITONCLIENTS = {"gevent", "geventhttpclient", "aiohttp", "grpc"}  # what tritonclient[http,grpc] brings

WEB = {"fastapi", "pydantic", "uvicorn", "starlette", "bentoml", "litserve", "mlserver", "ray"}

ALLOWED = {
    "client/src": {"cesta_client", "numpy", "tritonclient", *TRITONCLIENTS},
    "ensemble": {"ensemble", "numpy", "faiss", "numba", "onnx", "onnxruntime", *TRITONS},
    "loadtests/peers": {
        "loadtests",
        "ensemble",
        "operations",
        "export_scripts",
        "numpy",
        "onnx",
        "torch",
        *WEB,
    },
}
FLOWS = "export_scripts/flows"

# onnx where an index is made, which no server does: tests/unit/ensemble/test_scan.py
SAMPLER_ALLOWED = {"numpy", "numba", "faiss", "onnx", "onnxruntime", *TRITONS}


def modules(folder: str) -> list[Path]:
    paths = sorted((ROOT / folder).rglob("*.py"))
    return [path for path in paths if "__pycache__" not in path.parts]


def imported(path: Path) -> set[str]:
    """Top-level names of all absolute imports, anywhere in the module."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


def third_party(path: Path) -> set[str]:
    return imported(path) - set(sys.stdlib_module_names)


@pytest.mark.parametrize("folder", ALLOWED)
def test_a_folder_imports_only_what_it_may(folder: str) -> None:
    """The client may import numpy, tritonclient and its dependencies; ensemble the serving environment."""
    strangers = {p.relative_to(ROOT).as_posix(): third_party(p) - ALLOWED[folder] for p in modules(folder)}
    assert {path: names for path, names in strangers.items() if names} == {}


def test_the_sampler_is_closed() -> None:
    """Triton imports the copy in a release as "<version>.model": an absolute import may find another."""
    strangers = {p.name: third_party(p) - SAMPLER_ALLOWED for p in modules("ensemble/candidate_sampler")}
    assert {path: names for path, names in strangers.items() if names} == {}


def test_the_onnx_backend_stands_alone() -> None:
    """It is copied into the backend directory, away from all our other code."""
    for path in modules("ensemble/onnx_backend"):
        assert not imported(path) & OWN, path


def test_the_flows_import_nothing_of_cesta() -> None:
    """Prefect wants another fastapi and dateutil, so its environment has no cesta. They type verbs."""
    siblings = {path.stem for path in modules(FLOWS)}
    for path in modules(FLOWS):
        assert third_party(path) <= {"prefect", *siblings}, path


@pytest.mark.parametrize("folder", ["export_scripts", "operations", "ensemble", "client/src", "loadtests"])
def test_nothing_imports_from_deploy_or_tests(folder: str) -> None:
    for path in modules(folder):
        assert not imported(path) & {"deploy", "tests"}, path


def test_the_load_tests_ask_as_a_shop_would() -> None:
    """They use the client, or bytes. The servers that they are compared with stay in peers/."""
    allowed = {"loadtests", "cesta_client", "ensemble", "operations", "export_scripts"}
    allowed |= {"numpy", "onnx", "rich", "tritonclient"}  # onnx: a broken release has a broken graph
    allowed |= {"duckdb", "pyarrow"}  # generated shops, and the bar for etl
    for path in modules("loadtests"):
        if path.parent.name != "peers":
            assert third_party(path) <= allowed | {"locust", "gevent", "grpc"}, path


def loaded_by(module: str, folder: Path) -> set[str]:
    """Modules in memory after importing `module` in a fresh process, in an empty working folder."""
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert list(folder.iterdir()) == []
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("module", ["operations.cli", "export_scripts.settings", "operations.server.process"])
def test_the_command_starts_without_the_heavy_libraries(module: str, tmp_path: Path) -> None:
    """`cesta --help` and `cesta serve` do not wait for torch, nor for pandas."""
    assert not loaded_by(module, tmp_path) & {"torch", "pandas", "numba", "faiss", "onnxruntime", "onnx"}


def test_importing_any_module_writes_and_prints_nothing(tmp_path: Path) -> None:
    """All modules in one process make no folder, choose no device and leave no thread."""
    loadtests = [p for p in modules("loadtests") if p.parent.name != "peers" and p.name != "shoppers.py"]
    offline = [path for path in modules("export_scripts") if path.parent != ROOT / FLOWS]
    paths = [*offline, *modules("operations"), *modules("ensemble"), *loadtests]
    names = [
        ".".join(p.relative_to(ROOT).with_suffix("").parts) for p in paths if not p.name.startswith("__")
    ]
    away = "sys.modules['triton_python_backend_utils'] = sys.modules['c_python_backend_utils'] = object()"
    code = f"import importlib, sys, threading; {away}\nfor name in {names}: importlib.import_module(name)\n"
    code += "assert threading.active_count() == 1, threading.enumerate()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
