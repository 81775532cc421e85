"""Digests of the code that a stage runs: its own module and everything of this project that it imports.

Python files enter as parsed code without comments and docstrings. A data file that a module reads enters too:

- A module reads a file that lies beside it, or in a model's folder of ``model_repository/``, if the module's
  code holds the file's name as a string: ``"report.html.j2"``, ``"config.pbtxt"``.
- A ``config.pbtxt`` enters as Triton understands it, without comments. Other files enter byte by byte.
- Toml files do not enter. They hold settings, and a stage's key holds the values of its settings.

The form of parsed code belongs to one version of Python. Under another version all digests differ, and every
stage runs once. An import that code makes by a computed name is not seen.
"""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from operations.errors import CestaError
from operations.records.contract import read_config
from operations.shipped import ROOT, find_shipped

PACKAGES: Final = ("export_scripts", "operations", "ensemble", "cesta_client")
CLIENT: Final = "client/src/"  # the home of cesta_client in a checkout; in site-packages all lie side by side
SETTINGS: Final = ".toml"


class SourceTree:
    """The project's Python files below ``root``. Each file is read once, when it is first needed."""

    def __init__(self, root: Path = ROOT):
        self._root = root
        self._paths = {
            path.relative_to(root).as_posix()
            for package in PACKAGES
            for home in ("", CLIENT)
            for path in (root / home / package).rglob("*.py")
        }
        self._sources: dict[str, _Source] = {}

    def digest(self, module: str) -> str:
        """SHA-256 over the code of ``module`` (a dotted name) and of all modules that it imports.

        Raises LookupError if there is no such module.
        """
        listing = (f"{self._source(path).digest}  {path}\n" for path in sorted(self.paths(module)))
        return hashlib.sha256("".join(listing).encode()).hexdigest()

    def paths(self, module: str) -> set[str]:
        """The files of ``module`` and of all modules that it imports, relative to the root."""
        waiting, reached = self._paths_of(module), set[str]()
        if f"{module.replace('.', '/')}.py" not in waiting:
            raise LookupError(f"no module {module} below {self._root}")
        while waiting:
            path = waiting.pop()
            reached.add(path)
            waiting |= self._source(path).imports - reached
        return reached

    def _source(self, path: str) -> "_Source":
        if path not in self._sources:
            self._sources[path] = self._read(path)
        return self._sources[path]

    def _read(self, path: str) -> "_Source":
        content = (self._root / path).read_bytes()
        try:
            tree = ast.parse(content)
        except (SyntaxError, ValueError):  # somebody is editing it
            return _Source(hashlib.sha256(content).hexdigest(), set())
        code: list[str] = []
        nodes: list[ast.AST] = []
        _walk(tree, code, nodes)
        digest = hashlib.sha256(" ".join(code).encode())
        for file in self._data_files(path, nodes):
            digest.update(hashlib.sha256(_content(file)).digest())
        package = _package(path)
        names = {name for node in nodes for name in _imported(node, package)}
        return _Source(digest.hexdigest(), set().union(*map(self._paths_of, names)))

    def _paths_of(self, name: str) -> set[str]:
        """The file of a dotted name and those of the packages around it; none if it is not the project's."""
        parts = name.split(".")
        stems = [home + "/".join(parts[:end]) for home in ("", CLIENT) for end in range(1, len(parts) + 1)]
        return {f"{stem}{suffix}" for stem in stems for suffix in (".py", "/__init__.py")} & self._paths

    def _data_files(self, path: str, nodes: list[ast.AST]) -> list[Path]:
        """The data files that the module at ``path`` reads, by the strings among its nodes."""
        strings = {node.value for node in nodes if isinstance(node, ast.Constant)}
        beside = (self._root / path).parent.iterdir()
        models = find_shipped("model_repository", self._root).rglob("*")
        return sorted(
            file
            for file in {*beside, *models}
            if file.name in strings and file.suffix not in (".py", SETTINGS) and file.is_file()
        )


class _Source(NamedTuple):
    """One Python file: the digest of its code and data files, and the files that it imports."""

    digest: str
    imports: set[str]


def _walk(part: object, code: list[str], nodes: list[ast.AST]) -> None:
    """Append the words of the parsed code below ``part``, and its nodes.

    Positions are left out, and so are statements that are only a string: docstrings.
    """
    if isinstance(part, ast.AST):
        nodes.append(part)
        code.append(type(part).__name__)
        for field in part._fields:
            _walk(getattr(part, field, None), code, nodes)
    elif isinstance(part, list):
        code.append("[")
        for item in part:
            if not _is_docstring(item):
                _walk(item, code, nodes)
        code.append("]")
    else:
        code.append(repr(part))


def _is_docstring(statement: object) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _package(path: str) -> list[str]:
    """The package of the module at ``path``, in parts; an ``__init__`` is in the package that it makes."""
    relative = path.removeprefix(CLIENT)
    return relative.split("/")[:-1]


def _imported(node: ast.AST, package: list[str]) -> Iterator[str]:
    """Dotted names that an import statement in ``package`` may load; some name a function or a class."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        around = package[: len(package) - node.level + 1] if node.level else []
        base = ".".join([*around, *([node.module] if node.module else [])])
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)


def _content(file: Path) -> bytes:
    """The bytes that stand for a data file: those of a config without its comments."""
    if file.suffix == ".pbtxt":
        try:
            parsed: bytes = read_config(file).SerializeToString(deterministic=True)
            return parsed
        except CestaError:  # somebody is editing it
            pass
    return file.read_bytes()
