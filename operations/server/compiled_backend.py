"""The C++ `onnxruntime` backend: it is compiled into the serving environment, and found there later.

    python -m operations.server.compiled_backend    # 4 s; `make install` does it

It gives the same answers as onnx_backend/model.py, but inside tritonserver's own process: no batch travels to
another process and back (docs/performance.md has the savings). Without a C++ compiler the Python one serves.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from operations.errors import ServerError
from operations.server.environment import ServingEnvironment, find_serving_environment
from operations.shipped import ROOT, command

_SOURCES = ROOT / "ensemble" / "onnx_backend" / "compiled"
_COMPILERS = ("c++", "g++", "clang++")  # the first that is installed; $CXX comes before them
_OPTIONS = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-fvisibility=hidden"]
_OPTIONS += ["-static-libstdc++", "-static-libgcc"]  # the image that serves may have older ones ...
_OPTIONS += ["-Wl,--exclude-libs,ALL"]  # ... which must not replace parts of these
_RUNTIME = "libonnxruntime.so.1"  # ONNX Runtime's soname; its file has a longer name


def find_library(environment: ServingEnvironment) -> Path | None:
    """Return the library that was compiled from these sources for this ONNX Runtime, or None."""
    runtime = _onnxruntime(environment)
    library = _folder(environment) / f"libtriton_onnxruntime-{_digest(runtime)}.so" if runtime else None
    return library if library and library.is_file() else None


def find_compiler() -> str | None:
    """Return the first installed compiler of $CXX and the usual names, or None."""
    return next(filter(shutil.which, [*filter(None, [os.environ.get("CXX")]), *_COMPILERS]), None)


def compile_library(environment: ServingEnvironment) -> Path:
    """Return the library; compile it if necessary. Raises `ServerError` with the reason if that fails."""
    if library := find_library(environment):
        return library
    runtime = _onnxruntime(environment)
    if runtime is None:
        raise ServerError(f"there is no libonnxruntime.so.* in {environment.site_packages}/onnxruntime/capi")
    compiler = find_compiler()
    if compiler is None:
        raise ServerError(f'there is no C++ compiler (apt-get install g++, then "{command("install")}")')
    folder = _folder(environment)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        Path(scratch, _RUNTIME).symlink_to(runtime)
        Path(scratch, _RUNTIME).replace(folder / _RUNTIME)  # never absent: a server may start meanwhile
        library = Path(scratch, "library.so")
        _run([compiler, *_OPTIONS, "-o", str(library), *map(str, sorted(_SOURCES.glob("*.cc")))], folder)
        return library.rename(folder / f"libtriton_onnxruntime-{_digest(runtime)}.so")


def _run(command: list[str], libraries: Path) -> None:
    link = [f"-L{libraries}", f"-l:{_RUNTIME}", "-Xlinker", "-rpath", "-Xlinker", str(libraries)]
    done = subprocess.run([*command, *link], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServerError(f"{command[0]} ended with {done.returncode}:\n{done.stderr.strip()}")


def _folder(environment: ServingEnvironment) -> Path:
    return environment.root.resolve() / "lib" / "cesta"


def _onnxruntime(environment: ServingEnvironment) -> Path | None:
    libraries = environment.site_packages.resolve().glob("onnxruntime/capi/libonnxruntime.so.*")
    return next(iter(sorted(libraries)), None)


def _digest(runtime: Path) -> str:
    """Digest everything that goes into the library, so that a stale library has another file name."""
    digest = hashlib.sha256(f"{runtime} {_OPTIONS}".encode())
    for source in sorted(_SOURCES.iterdir()):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


def main() -> None:
    """Compile the library. Where that fails, print the reason and what serves instead."""
    try:
        print(f"compiled {compile_library(find_serving_environment())}")
    except ServerError as error:
        sys.exit(f"{error}\nWithout it the Python backend serves the scorer: the same answers, slower.")


if __name__ == "__main__":
    main()
