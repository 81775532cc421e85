"""The floors of the house: imports lead downwards only, and no files import each other in a circle.

loadtests → export_scripts (offline) → operations (around Triton) → ensemble (inside Triton), client
"""

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests import ROOT

# Who may import whom; "cesta_client" is what lies in client/src.
FLOORS = {
    "loadtests": {"loadtests", "export_scripts", "operations", "ensemble", "cesta_client"},
    "export_scripts": {"export_scripts", "operations", "ensemble", "cesta_client"},
    "operations": {"operations", "ensemble", "cesta_client"},
    "ensemble": {"ensemble"},
    "cesta_client": {"cesta_client"},
}
# Sub-packages in the data's way: each imports those before it, and itself.
ORDERS = {
    "export_scripts": (
        *("engines", "receipts", "snapshots", "lists", "scorer", "quality", "scoring"),
        *("drift", "paper"),
        *("freshness", "retraining", "commands", "replay"),
    ),
    "operations": (
        "shipped",
        "processes",
        "records",
        "live",
        "drift",
        "server",
        "releases",
        "gateway",
        "events",
        "explaining",
        "supervisor",
        "stack",
        "commands",
    ),
}
# Modules beside the sub-packages: those that every sub-package may import. The others, such as build.py,
# stand above all sub-packages except commands.
BASES = {
    "export_scripts": {"complete_journey", "durations", "progress", "provenance", "settings", "thread_count"},
    "operations": {"address", "errors", "log_stream", "outputs", "plain_path", "settings"},
}
ABOVE_VERBS = {"commands", "replay"}  # sub-packages that call build.py and its like
OFFLINE = {"torch", "pandas"}  # of the floor export_scripts; loadtests/peers are other people's apps
SERVING = {  # packages of `pip install cesta` and of its extras etl, kafka, mlflow, redis and stores
    *("confluent_kafka", "cryptography", "fastapi", "google", "mlflow", "numpy", "obstore", "onnx"),
    *("prometheus_client", "pyarrow", "pydantic", "redis", "rich", "structlog", "starlette"),
    *("tritonclient", "typer", "uvicorn"),
}


def sources(root: Path) -> dict[str, Path]:
    """Dotted name → file of every module of the house."""
    modules = {}
    for package in FLOORS:
        home = root / "client" / "src" if package == "cesta_client" else root
        for path in sorted((home / package).rglob("*.py")):
            parts = path.relative_to(home).with_suffix("").parts
            modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def imports(module: str, path: Path, modules: dict[str, Path]) -> set[str]:
    """Dotted names that a module imports, anywhere in it: modules of the house, or top-level packages."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                names.add(inner if inner in modules else base)
    return names


def graph(root: Path = ROOT) -> dict[str, set[str]]:
    """Module → the modules of the house that it imports."""
    modules = sources(root)
    return {name: imports(name, path, modules) & modules.keys() for name, path in modules.items()}


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, the first again at the end; empty if there is none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        modules: list[str] = error.args[1]
        return modules
    return []


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_lead_downwards(floor: str) -> None:
    upwards = [
        f"{module} → {target}"
        for module, targets in graph().items()
        if module.partition(".")[0] == floor
        for target in sorted(targets)
        if target.partition(".")[0] not in FLOORS[floor]
    ]
    assert upwards == []


@pytest.mark.parametrize("floor", ORDERS)
def test_sub_packages_follow_the_datas_way(floor: str) -> None:
    """A sub-package imports none that comes after it."""
    order = ORDERS[floor]
    backwards = []
    for module, targets in graph().items():
        parts = module.split(".")
        if parts[0] != floor or len(parts) < 3:
            continue
        for target in sorted(targets):
            into = target.split(".")
            if into[0] == floor and len(into) > 2 and order.index(into[1]) > order.index(parts[1]):
                backwards.append(f"{module} → {target}")
    assert backwards == []


def test_every_sub_package_has_its_place() -> None:
    """A new folder is entered in ORDERS."""
    for floor, order in ORDERS.items():
        folders = {path.parent.name for path in (ROOT / floor).glob("*/__init__.py")}
        assert folders == set(order)


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circle(graph()) == []


def test_a_planted_circle_is_seen(tmp_path: Path) -> None:
    """The circle leads through a third file, an import inside a function, and a relative name."""
    package = tmp_path / "operations"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "one.py").write_text("from operations.two import x\n")
    (package / "two.py").write_text("def x():\n    from . import three\n")
    (package / "three.py").write_text("import operations.one\n")
    assert set(circle(graph(tmp_path))) == {"operations.one", "operations.two", "operations.three"}


@pytest.mark.parametrize("floor", ORDERS)
def test_sub_packages_import_no_verb_above_them(floor: str) -> None:
    """build.py and its like import the sub-packages, never the other way round."""
    order = ORDERS[floor]
    backwards = []
    for module, targets in graph().items():
        parts = module.split(".")
        if parts[0] != floor or len(parts) < 3 or parts[1] in ABOVE_VERBS:
            continue
        for target in sorted(targets):
            into = target.split(".")
            if into[0] == floor and len(into) == 2 and into[1] not in {*BASES[floor], *order}:
                backwards.append(f"{module} → {target}")
    assert backwards == []


def test_operations_imports_what_cesta_installs_without_extras() -> None:
    modules = sources(ROOT)
    strangers = [
        f"{module} → {name}"
        for module, path in modules.items()
        if module.partition(".")[0] == "operations"
        for name in imports(module, path, modules)
        if name.partition(".")[0] not in {*FLOORS, *SERVING, *sys.stdlib_module_names}
    ]
    assert strangers == []


def test_operations_does_not_name_the_floor_above() -> None:
    """The test reads strings, too: an import by name would not show among the imports."""
    paths = (ROOT / "operations").rglob("*.py")
    assert [path.name for path in paths if "export_scripts" in path.read_text(encoding="utf-8")] == []


def test_torch_and_pandas_are_at_home_offline_only() -> None:
    """The apps of loadtests/peers, which are compared with ours, may use them, too."""
    modules = sources(ROOT)
    strangers = [
        f"{module} → {name}"
        for module, path in modules.items()
        if not module.startswith(("export_scripts", "loadtests.peers"))
        for name in imports(module, path, modules)
        if name.partition(".")[0] in OFFLINE
    ]
    assert strangers == []
