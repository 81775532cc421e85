"""Imports the sampler's code from a folder named by what it holds, which all releases of that code share.

Numba finds what it once compiled by a function's module and by its file. Triton names the module by the
release ("7.kernels"), and each release has a folder of its own, a new one at every load if the repository is
in an object store: each would compile again what is the same to the last byte, for six seconds.
"""

import hashlib
import importlib
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType


def import_adapter(release: Path, cache: str | None) -> ModuleType:
    """The module ``adapter`` of the code in ``release``; from below ``cache`` if that can be written to."""
    try:
        package = shared(release, Path(cache) / "code") if cache else release
    except OSError:
        package = release  # compiles for itself, as numba would without a cache
    sys.path.insert(0, str(package.parent))
    try:
        adapter = importlib.import_module(f"{package.name}.adapter")
    finally:
        sys.path.remove(str(package.parent))
    if not Path(str(adapter.__file__)).parent.samefile(package):
        raise ImportError(f"{adapter.__file__} was imported before; a process serves the code of one release")
    return adapter


def shared(release: Path, folder: Path) -> Path:
    """A package of the code in ``release`` below ``folder``, written there unless it is. Raises OSError."""
    digest = digest_of(release)
    package = folder / digest / "candidate_sampler"
    if package.is_dir() and digest_of(package) == digest:
        return package
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as staged:
        fresh = Path(staged, "fresh", package.name)
        fresh.mkdir(parents=True)
        for file in _code(release):
            copy = fresh / file.relative_to(release)
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, copy)
        if package.is_dir() and digest_of(package) != digest:  # somebody changed it
            package.parent.rename(Path(staged, "changed"))
        try:
            fresh.parent.rename(package.parent)
        except OSError:
            if not package.is_dir():  # else another process was first, and its package is as good
                raise
    return package


def digest_of(package: Path) -> str:
    """Return the digest of the names and texts of all Python files."""
    digest = hashlib.sha256()
    for file in _code(package):
        digest.update(f"{file.relative_to(package)}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:32]


def _code(package: Path) -> list[Path]:
    return sorted(package.rglob("*.py"))
