"""The names of packages in the common Linux distributions, for sentences that ask for one.

Standard library only, of Python 3.6 too: `make install` imports this before anything is installed.
"""

import contextlib
import re
from pathlib import Path

INSTALL = {
    "debian": "apt-get install",
    "fedora": "dnf install",
    "arch": "pacman -S",
    "suse": "zypper install",
}
RELATED = {"ubuntu": "debian", "rhel": "fedora", "centos": "fedora", "opensuse": "suse"}  # same package names
# Library → package by family. In a name, {} is Python's version, {_} the same with "_", {-} without a point.
LIBRARIES = {
    "libpython": {"debian": "libpython{}", "fedora": "python{}-libs", "suse": "libpython{_}-1_0"},
    "libstdc++": {"debian": "libstdc++6", "fedora": "libstdc++", "arch": "gcc-libs", "suse": "libstdc++6"},
    "libgcc_s": {"debian": "libgcc-s1", "fedora": "libgcc", "arch": "gcc-libs", "suse": "libgcc_s1"},
    "libz": {"debian": "zlib1g", "fedora": "zlib", "arch": "zlib", "suse": "libz1"},
    "libexpat": {"debian": "libexpat1", "fedora": "expat", "arch": "expat", "suse": "libexpat1"},
}
VENV = {"debian": "python{}-venv"}  # elsewhere it is part of Python
PYTHON = {
    "debian": "python{} python{}-venv libpython{}",
    "fedora": "python{}",
    "suse": "python{-} libpython{_}-1_0",
}
# The Python that runs Triton's models, where it is a package. Debian 13 and Arch have newer ones only.
PACKAGED = {"debian 12": "3.11", "ubuntu 24.04": "3.12", "fedora": "3.12", "suse": "3.12"}
UV = "uv python install 3.12 (https://docs.astral.sh/uv)"


def library_sentence(library: str, python: str) -> str:
    """Return how to get a shared library such as `"libpython3.11.so.1.0"`; `python` is a version, "3.11"."""
    stem = "libpython" if library.startswith("libpython") else library.partition(".so")[0]
    return _command(LIBRARIES.get(stem, {}), python) or f"install the package that has {library}"


def venv_sentence(python: str) -> str:
    """Return how to get what makes virtual environments for this version of Python."""
    return _command(VENV, python) or f"install a Python {python} with the module ensurepip"


def python_sentence() -> str:
    """Return how to get a Python that runs Triton's models."""
    release = _release()
    named = f"{release.get('ID')} {release.get('VERSION_ID')}"
    version = PACKAGED.get(named) or PACKAGED.get(_family(release))
    command = _command(PYTHON, version) if version else ""
    return f"{command}, or {UV}" if command else UV


def _command(packages: "dict[str, str]", python: str) -> str:
    """Return the command that installs this distribution's package; "" if its name is unknown."""
    family = _family(_release())
    if family not in packages:
        return ""
    forms = {"{}": python, "{_}": python.replace(".", "_"), "{-}": python.replace(".", "")}
    return f"{INSTALL[family]} " + re.sub(r"{[_-]?}", lambda form: forms[form.group()], packages[family])


def _family(release: "dict[str, str]") -> str:
    """Return the distribution whose package names this one shares; "" if it is unknown."""
    names = f"{release.get('ID', '')} {release.get('ID_LIKE', '')}".split()
    return next((name for name in (RELATED.get(name, name) for name in names) if name in INSTALL), "")


def _release() -> "dict[str, str]":
    """Return the fields of /etc/os-release; none where the file is missing."""
    with contextlib.suppress(OSError):
        lines = Path("/etc/os-release").read_text(encoding="utf-8", errors="replace").splitlines()
        return {name: value.strip("\"'") for name, _, value in (line.partition("=") for line in lines)}
    return {}
