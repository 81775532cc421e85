"""Checks the machine before anything is installed, and prints the Python for the serving environment.

    python3.11 -m operations.preflight                  # in the checkout; `make install` does it
    python3.13 -m operations.preflight --serving-python /path/to/python3.12

Standard library only. The syntax is that of old Pythons, which get a sentence too.
"""

import argparse
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

SERVING = ((3, 11), (3, 12))  # the Pythons of numpy 1.26, which tritonserver's stub needs
NEWEST_FIRST = ["3.12", "3.11"]  # of these
APPLICATION = (*SERVING, (3, 13))
# Modules that a Python built by hand lacks if these libraries' headers were missing. pip and numpy need them.
MODULES = {"ctypes": "libffi", "ssl": "OpenSSL", "zlib": "zlib"}
LIBRARIES = ("libstdc++.so.6", "libgcc_s.so.1", "libz.so.1")  # of tritonserver, from the system
GIB = 2**30
NEEDED_GIB = 5  # 3.3 GiB for all environments, the tests' included, 0.4 GiB for artifacts, and a margin
CUDA_GIB = 4  # more, if pip installs torch with CUDA, as it does from PyPI on Linux
ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Print the path of the Python for the serving environment, or exit with one sentence."""
    parser = argparse.ArgumentParser(prog="python -m operations.preflight", description=main.__doc__)
    parser.add_argument("--serving", action="store_true", help="this Python must run Triton's models")
    parser.add_argument("--serving-python", default="", help="the Python for the serving environment")
    parser.add_argument("--find", metavar="VERSION", help="only print the path of such a Python, as 3.12")
    parser.add_argument("--environment", type=Path, help="only check that it has this Python's version")
    options = parser.parse_args()
    if options.environment:
        check_environment(options.environment)
        return
    if options.find:
        print(find_python(options.find))
        return
    check_machine()
    check_python(SERVING if options.serving else APPLICATION)
    check_modules()
    if not options.serving:  # who asks about another Python has looked
        check_space()
    print(choose_serving_python(options.serving_python))


def choose_serving_python(named: str) -> str:
    """Return the path of the Python that was named, else of this one, else of another that can serve."""
    if named:
        path, reason = ask_other(named)
        return path or sys.exit(f"SERVING_PYTHON={named}: {reason}")
    if sys.version_info[:2] not in SERVING:
        return find_serving_python()
    check_libraries()
    return sys.executable


def find_python(version: str) -> str:
    """Return the path of a Python of this version."""
    found = next(iter(other_pythons([version])), None)
    return found or sys.exit(
        f"no Python {version} was found on PATH, from pyenv or from uv: uv python install {version}"
    )


def check_machine() -> None:
    """Check what tritonserver's programs need of processor and system."""
    from operations.server.libraries import ARCHITECTURE, GLIBC, glibc_version

    machine = platform.machine()
    if sys.platform != "linux" or machine != ARCHITECTURE:
        sys.exit(
            f"this machine is {sys.platform} on {machine}, and tritonserver's wheel is for Linux on "
            f"{ARCHITECTURE}; use such a machine, or such a virtual machine"
        )
    glibc = glibc_version()
    if glibc < GLIBC:
        library = f"glibc {_text(glibc)}" if glibc else "no glibc"
        sys.exit(
            f"this machine has {library}, and tritonserver needs {_text(GLIBC)} or newer; "
            "use Ubuntu 22.04, Debian 12, Fedora 36 or newer"
        )


def check_python(versions: "tuple[tuple[int, int], ...]") -> None:
    """Check that this Python has one of the versions."""
    from operations.server.distribution import python_sentence

    if sys.version_info[:2] in versions:
        return
    *others, last = map(_text, versions)
    found = next(iter(other_pythons(NEWEST_FIRST)), None)
    way_out = f"make PYTHON={found}" if found else f"{python_sentence()}, then make again"
    sys.exit(f"this is Python {_version()}; cesta needs {', '.join(others)} or {last}: {way_out}")


def check_modules() -> None:
    """Check that this Python has the modules that distributions package apart, or that a build can lack."""
    from operations.server.distribution import venv_sentence

    if not all(map(importlib.util.find_spec, ("venv", "ensurepip"))):
        sys.exit(
            f"{sys.executable} cannot make virtual environments (no ensurepip); {venv_sentence(_version())}"
        )
    for module, library in MODULES.items():
        try:
            __import__(module)
        except ImportError:
            sys.exit(
                f"{sys.executable} has no module {module}: it was built without {library}; install its "
                "development package and build Python again, or take another: make PYTHON=/path/to/python"
            )


def check_environment(environment: Path) -> None:
    """Check that an environment that was made before has this Python's version."""
    made = sorted(folder.name[len("python") :] for folder in environment.glob("lib/python3.*"))
    if made and made != [_version()]:
        sys.exit(f"{environment} has Python {' and '.join(made)}, not {_version()}; run make clean-all first")


def check_space() -> None:
    """Check the free disk space, unless the environments are there."""
    free = shutil.disk_usage(ROOT).free / GIB
    if free < NEEDED_GIB and not (ROOT / ".venv-serving").exists():
        sys.exit(
            f"{free:.1f} GiB free in {ROOT}; the environments and artifacts need {NEEDED_GIB}, "
            f"and {CUDA_GIB} more if pip installs torch with CUDA: free some"
        )


def check_libraries() -> None:
    """Check that the loader finds what tritonserver and the stub for this Python take from the system."""
    from operations.server.distribution import library_sentence, python_sentence
    from operations.server.libraries import libpython, libpython_folders, missing_libraries

    prefix, own = Path(sys.base_prefix), libpython(_version())
    folders = [*map(str, libpython_folders(prefix, _version())), os.environ.get("LD_LIBRARY_PATH", "")]
    program = Path(shutil.which("true") or "/bin/true")  # any that the loader starts
    missing = missing_libraries(program, os.pathsep.join(filter(None, folders)), wanted=(own, *LIBRARIES))
    if own in missing and prefix != Path("/usr"):
        sys.exit(
            f"{sys.executable} was built without --enable-shared, and Triton runs its models in {own}; build "
            "it with that option (pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install), or take "
            f"another: {python_sentence()}"
        )
    if missing:
        ways_out = {library_sentence(library, _version()): None for library in missing}
        sys.exit(f"Triton needs {', '.join(missing)}, which this machine lacks; {'; '.join(ways_out)}")


def find_serving_python() -> str:
    """Return the first other Python that can run Triton's models."""
    from operations.server.distribution import python_sentence

    reasons = []
    for python in other_pythons(NEWEST_FIRST):
        path, reason = ask_other(python)
        if path:
            return path
        reasons.append(f"{python}: {reason}")
    *others, last = map(_text, SERVING)
    needed = f"{', '.join(others)} or {last}"
    sys.exit(
        f"Python {_version()} runs the application; Triton's models need Python {needed} beside it, and "
        + (f"none can run them ({'; '.join(reasons)})" if reasons else "none was found")
        + f": {python_sentence()}, then make again"
    )


def other_pythons(versions: "list[str]") -> "list[str]":
    """Return the Pythons of these versions on PATH, and then those of pyenv and uv."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()
    data = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser()
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or data / "uv" / "python")
    found = []
    for version in versions:
        on_path = shutil.which(f"python{version}")
        installed = [
            *sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"), reverse=True),
            *sorted(uv.glob(f"cpython-{version}.*/bin/python{version}"), reverse=True),
        ]
        found += [*([on_path] if on_path else []), *map(str, installed)]
    return [python for python in found if _runs(python)]


def ask_other(python: str) -> "tuple[str, str]":
    """Return the path of a Python that can run Triton's models; else "" and a sentence that says why not."""
    if not _runs(python):
        return "", f"it does not run; give the path of a Python {_text(SERVING[-1])}"
    asked = subprocess.run(
        [python, "-m", "operations.preflight", "--serving"],
        cwd=str(ROOT),
        capture_output=True,
        text=True,
        check=False,
    )
    return ("", asked.stderr.strip()) if asked.returncode else (asked.stdout.strip(), "")


def _runs(python: str) -> bool:
    """Tell whether it starts. pyenv puts names on PATH that only print that nothing is installed."""
    try:
        done = subprocess.run(
            [python, "-c", ""], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
        )
    except OSError:
        return False
    return done.returncode == 0


def _version() -> str:
    return _text(sys.version_info[:2])


def _text(version: "tuple[int, ...]") -> str:
    return ".".join(map(str, version))


if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # started as a file, it would find no package
    main()
