"""The checks before anything is installed: each finding is one sentence with its way out."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from operations import preflight
from operations.server import distribution, libraries
from tests import ROOT

Machine = Callable[..., None]
UBUNTU = {"ID": "ubuntu", "ID_LIKE": "debian", "VERSION_ID": "24.04"}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A Debian 12 with a Python of its own and nothing else; the keywords say what is different."""

    def fake(
        *,
        python: tuple[int, int] = (3, 11),
        others: dict[str, str] | None = None,
        missing: tuple[str, ...] = (),
        prefix: str = "/usr",
        release: dict[str, str] | None = None,
    ) -> None:
        answers = others or {}  # of other Pythons: "" for one that can serve
        monkeypatch.setattr(sys, "argv", ["preflight"])
        monkeypatch.setattr(sys, "version_info", (*python, 1))
        monkeypatch.setattr(sys, "base_prefix", prefix)
        monkeypatch.setattr(sys, "executable", f"{prefix}/bin/python3")
        monkeypatch.setattr(distribution, "_release", lambda: release or {"ID": "debian", "VERSION_ID": "12"})
        monkeypatch.setattr(libraries, "missing_libraries", lambda *_, wanted: [*missing])
        monkeypatch.setattr(preflight, "other_pythons", lambda versions: [*answers])
        monkeypatch.setattr(
            preflight, "ask_other", lambda path: ("", answers[path]) if answers[path] else (path, "")
        )

    fake()
    return fake


def sentence() -> str:
    with pytest.raises(SystemExit) as refusal:
        preflight.main()
    assert isinstance(refusal.value.code, str)
    return refusal.value.code


def test_debian_without_libpython_names_its_package(machine: Machine) -> None:
    """Debian's python3.11 runs without it, but Triton's stub does not."""
    machine(missing=("libpython3.11.so.1.0",))
    assert sentence() == (
        "Triton needs libpython3.11.so.1.0, which this machine lacks; apt-get install libpython3.11"
    )


def test_every_missing_library_is_named_at_once(machine: Machine) -> None:
    machine(missing=("libpython3.12.so.1.0", "libz.so.1"), python=(3, 12), release={"ID": "fedora"})
    assert sentence() == (
        "Triton needs libpython3.12.so.1.0, libz.so.1, which this machine lacks; "
        "dnf install python3.12-libs; dnf install zlib"
    )


def test_a_python_built_by_hand_without_its_library_is_refused(machine: Machine) -> None:
    """No package has the library of such a Python."""
    machine(missing=("libpython3.11.so.1.0",), prefix="/opt/python")
    assert sentence() == (
        "/opt/python/bin/python3 was built without --enable-shared, and Triton runs its models in "
        "libpython3.11.so.1.0; build it with that option (pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared pyenv "
        "install), or take another: apt-get install python3.11 python3.11-venv libpython3.11, "
        "or uv python install 3.12 (https://docs.astral.sh/uv)"
    )


def test_a_python_without_venv_names_its_package(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(python=(3, 12), release=UBUNTU)
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: None)
    assert sentence().endswith(
        "cannot make virtual environments (no ensurepip); apt-get install python3.12-venv"
    )


@pytest.mark.parametrize("module", preflight.MODULES)
def test_a_python_built_without_a_module_is_refused(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert f"has no module {module}: it was built without {preflight.MODULES[module]}; install" in sentence()


def test_another_architecture_is_refused(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert sentence().startswith("this machine is linux on aarch64, and tritonserver's wheel is for Linux on")


@pytest.mark.parametrize(
    ("library", "found"), [("glibc 2.31", "glibc 2.31"), (None, "no glibc"), ("", "no glibc")]
)
def test_an_old_glibc_is_refused(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, library: str | None, found: str
) -> None:
    """Ubuntu 20.04 has 2.31, Alpine none."""
    monkeypatch.setattr(os, "confstr", lambda name: library)
    assert sentence().startswith(
        f"this machine has {found}, and tritonserver needs 2.35 or newer; use Ubuntu"
    )


@pytest.mark.parametrize("python", [(3, 10), (3, 14)])
def test_another_python_is_refused_with_one_that_is_there(machine: Machine, python: tuple[int, int]) -> None:
    machine(python=python, others={"/usr/bin/python3.12": ""})
    assert sentence() == (
        f"this is Python 3.{python[1]}; cesta needs 3.11, 3.12 or 3.13: make PYTHON=/usr/bin/python3.12"
    )


def test_another_python_alone_is_refused_with_how_to_get_one(machine: Machine) -> None:
    machine(python=(3, 14), release={"ID": "fedora", "VERSION_ID": "43"})
    assert sentence() == (
        "this is Python 3.14; cesta needs 3.11, 3.12 or 3.13: dnf install python3.12, "
        "or uv python install 3.12 (https://docs.astral.sh/uv), then make again"
    )


def test_python_3_13_takes_an_older_one_for_the_models(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first that can serve; one without libpython cannot."""
    machine(python=(3, 13), others={"/usr/bin/python3.12": "no libpython", "/pyenv/python3.11": ""})
    preflight.main()
    assert capsys.readouterr().out == "/pyenv/python3.11\n"


def test_python_3_13_alone_says_how_to_get_an_older_one(machine: Machine) -> None:
    """Debian 13 packages no older one."""
    machine(python=(3, 13), release={"ID": "debian", "VERSION_ID": "13"})
    assert sentence() == (
        "Python 3.13 runs the application; Triton's models need Python 3.11 or 3.12 beside it, and none was "
        "found: uv python install 3.12 (https://docs.astral.sh/uv), then make again"
    )


def test_a_python_that_cannot_serve_is_named_with_its_reason(machine: Machine) -> None:
    machine(python=(3, 13), others={"/usr/bin/python3.11": "Triton needs libpython3.11.so.1.0"})
    assert "and none can run them (/usr/bin/python3.11: Triton needs libpython3.11.so.1.0): " in sentence()


def test_a_named_python_for_the_models_is_checked(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(others={"/opt/python3.10": "this is Python 3.10"})
    monkeypatch.setattr(sys, "argv", ["preflight", "--serving-python", "/opt/python3.10"])
    assert sentence() == "SERVING_PYTHON=/opt/python3.10: this is Python 3.10"


def test_pythons_are_found_on_path_and_where_pyenv_and_uv_keep_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of the versions; a name of pyenv's that only prints an error is passed over."""
    pythons = {
        "bin/python3.12": "exit 127",
        "bin/python3.11": "exit 0",
        "pyenv/versions/3.12.1/bin/python3.12": "exit 0",
        "pyenv/versions/3.13.0/bin/python3.13": "exit 0",
        "uv/cpython-3.11.9-linux-x86_64-gnu/bin/python3.11": "exit 0",
    }
    for name, does in pythons.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{does}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path / "uv"))

    found = [
        Path(python).relative_to(tmp_path).as_posix() for python in preflight.other_pythons(["3.12", "3.11"])
    ]

    assert found == [
        "pyenv/versions/3.12.1/bin/python3.12",
        "bin/python3.11",
        "uv/cpython-3.11.9-linux-x86_64-gnu/bin/python3.11",
    ]


def test_a_version_that_is_looked_for_is_found_or_named(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(others={"/usr/bin/python3.12": ""})
    monkeypatch.setattr(sys, "argv", ["preflight", "--find", "3.12"])
    preflight.main()
    assert capsys.readouterr().out == "/usr/bin/python3.12\n"
    monkeypatch.setattr(preflight, "other_pythons", lambda versions: [])
    assert sentence() == ("no Python 3.12 was found on PATH, from pyenv or from uv: uv python install 3.12")


def test_it_runs_as_a_file_from_any_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, preflight.__file__], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_an_environment_of_another_version_is_refused(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make PYTHON=python3.12` beside a .venv of 3.11 would silently go on with 3.11."""
    monkeypatch.setattr(sys, "argv", ["preflight", "--environment", str(tmp_path)])
    preflight.main()  # nothing was made yet
    (tmp_path / "lib" / "python3.12").mkdir(parents=True)
    assert sentence() == f"{tmp_path} has Python 3.12, not 3.11; run make clean-all first"


def test_too_little_room_is_refused_with_what_is_needed(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 2**30))
    monkeypatch.setattr(preflight, "ROOT", tmp_path)
    assert sentence() == (
        f"1.0 GiB free in {tmp_path}; the environments and artifacts need 5, "
        "and 4 more if pip installs torch with CUDA: free some"
    )


def test_this_machine_passes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With the loader's real answers. The Python that it prints can run Triton's models."""
    monkeypatch.setattr(sys, "argv", ["preflight"])
    preflight.main()
    python = capsys.readouterr().out.strip()
    script = "import sys; print(sys.version_info[:2] in ((3, 11), (3, 12)))"
    assert subprocess.check_output([python, "-c", script], cwd=ROOT, text=True) == "True\n"


@pytest.mark.parametrize("named", ["", "python9.9"])
def test_make_without_a_python_says_how_to_get_one(tmp_path: Path, named: str) -> None:
    """make itself finds that out: there is nothing that could run this module."""
    done = subprocess.run(
        [
            shutil.which("make") or "make",
            "install",
            f"APP={tmp_path / 'venv'}",
            *([f"PYTHON={named}"] if named else []),
        ],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    found = f"{named} does not run" if named else "no Python 3.11 to 3.13 was found"
    assert done.returncode == 2
    assert done.stdout.startswith(f"{found}: install Python 3.11 or 3.12 (apt-get install python3.11 ")
    assert not (tmp_path / "venv").exists()
