"""The tests are one package: they share builders and processes, import no other test, and stay short."""

import ast
from pathlib import Path

from tests import ROOT

TESTS = ROOT / "tests"
MOST_LINES = 400


def modules(root: Path) -> list[Path]:
    return sorted(root.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Dotted names that a module imports, anywhere in it; a relative import keeps its dots."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def imports_of_tests(root: Path) -> list[str]:
    """Imports of a test module or a conftest."""
    return [
        f"{path.relative_to(root)} imports {name}"
        for path in modules(root)
        for name in sorted(imports(path))
        if any(part.startswith("test_") or part == "conftest" for part in name.split("."))
    ]


def test_no_file_imports_a_test_or_a_conftest() -> None:
    """Code that two tests need lies in tests/building or tests/running."""
    assert imports_of_tests(TESTS) == []


def test_an_import_of_a_test_is_seen(tmp_path: Path) -> None:
    """The imports stand at the top, inside a function, and name a conftest."""
    (tmp_path / "test_a.py").write_text(
        "from tests.unit.test_b import make\nfrom tests.building import shops\n"
    )
    (tmp_path / "test_b.py").write_text("def f():\n    import tests.unit.test_c\n")
    (tmp_path / "test_c.py").write_text("from tests import conftest\n")
    assert imports_of_tests(tmp_path) == [
        "test_a.py imports tests.unit.test_b.make",
        "test_b.py imports tests.unit.test_c",
        "test_c.py imports tests.conftest",
    ]


def test_every_import_is_absolute() -> None:
    relative = [path for path in modules(TESTS) if any(name.startswith(".") for name in imports(path))]
    assert relative == []


def test_every_folder_is_a_package() -> None:
    folders = {folder for path in modules(TESTS) for folder in path.relative_to(ROOT).parents} - {Path()}
    assert sorted(folder for folder in folders if not (ROOT / folder / "__init__.py").is_file()) == []


def test_no_file_is_longer_than_400_lines() -> None:
    lines = {
        path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines()) for path in modules(TESTS)
    }
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}
