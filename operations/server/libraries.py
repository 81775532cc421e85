"""The shared libraries of tritonserver and its stubs: where `libpython` is, and which ones are missing.

Standard library only, of Python 3.6 too: `make install` imports this before anything is installed.
"""

import contextlib
import os
import re
import subprocess
from pathlib import Path

ARCHITECTURE = "x86_64"  # of the programs in tritonserver's wheel
GLIBC = (2, 35)  # they were linked against it
_TRACE_S = 20  # the loader takes 20 ms; a network disk may be slow
_MISSING = re.compile(
    r"^\s*(\S+) => not found"  # a library of the program
    r"|version `(\S+)' not found"  # a newer glibc or libstdc++, on stderr
    r"|object '(\S+)' from LD_PRELOAD cannot be preloaded"  # one of `wanted`, on stderr
    r"|error while loading shared libraries: ([^\s:]+)",  # the log of a program that was started
    re.MULTILINE,
)


def glibc_version() -> "tuple[int, ...]":
    """Return the version of glibc; () for another library of C, such as Alpine's."""
    with contextlib.suppress(ValueError, OSError):  # that library does not know the name
        version = (os.confstr("CS_GNU_LIBC_VERSION") or "").replace("glibc ", "")
        return tuple(int(part) for part in version.split(".")[:2])
    return ()


def libpython(version: str) -> str:
    """Return the name under which a stub asks for the library of a Python such as `"3.11"`."""
    return f"libpython{version}.so.1.0"


def libpython_folders(prefix: Path, version: str) -> "list[Path]":
    """Return the folders of an interpreter's own `libpython`; none where the loader finds it by itself."""
    folders = [] if prefix == Path("/usr") else [prefix / "lib", prefix / "lib64"]
    return [folder for folder in folders if (folder / libpython(version)).exists()]


def missing_libraries(program: Path, library_path: str, wanted: "tuple[str, ...]" = ()) -> "list[str]":
    """Return the libraries of `program` that the loader does not find, and those of `wanted`.

    A version such as `GLIBC_2.35` can be missing, too. The loader prints them and does not start the program.
    """
    loader = {
        "LD_LIBRARY_PATH": library_path,
        "LD_PRELOAD": ":".join(wanted),
        "LD_TRACE_LOADED_OBJECTS": "1",
    }
    with contextlib.suppress(subprocess.TimeoutExpired):
        traced = subprocess.run(
            [str(program)],
            env={**os.environ, **loader},
            capture_output=True,
            text=True,
            timeout=_TRACE_S,
            check=False,
        )
        return missing_in(traced.stdout + traced.stderr)
    return []


def missing_in(text: str) -> "list[str]":
    """Return the libraries that are missing according to what the loader printed."""
    return sorted({name for names in _MISSING.findall(text) for name in names if name})
