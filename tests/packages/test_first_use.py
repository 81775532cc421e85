"""An empty folder, an empty home: the serving environment is made, and a release is served and asked."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from cesta_client import __version__
from operations.server.compiled_backend import find_compiler
from tests.building.distributions import Distributions
from tests.running import needs
from tests.running.installation import Installation


@pytest.fixture
def newcomer(installation: Installation, tmp_path: Path) -> Installation:
    """A user who has only cesta: no serving environment is named, and the home is empty."""
    kept = {
        name: value
        for name, value in installation.variables.items()
        if not name.startswith(("CESTA_", "XDG_"))
    }
    (tmp_path / "home").mkdir()
    (tmp_path / "empty").mkdir()
    return replace(installation, folder=tmp_path / "empty", variables=kept | {"HOME": str(tmp_path / "home")})


@pytest.mark.triton
def test_the_first_serve_makes_the_environment_and_the_next_finds_it(
    newcomer: Installation, toys: Path
) -> None:
    """It says so on stderr, in the cache folder; nothing is written to the current folder."""
    needs.a_tritonserver()  # this machine can run it
    newcomer.cesta("release", "sign", 1, "--repository", toys)
    newcomer.cesta("release", "promote", 1, "--offline", "--repository", toys)
    ports = ("--http-port=0", "--grpc-port=0", "--metrics-port=0", "--supervisor-port=0")
    with newcomer.ready("cesta", "serve", "--repository", toys, *ports) as addresses:
        answer = newcomer.cesta("ask", "--basket", "i1", "--json", "--address", addresses["grpc"])
    assert json.loads(answer)["release"] == 1
    (made,) = (Path(newcomer.variables["HOME"]) / ".cache" / "cesta" / "serving").glob("*-python3.*[0-9]")
    assert bool(list(made.glob("lib/cesta/libtriton_onnxruntime-*.so"))) == bool(find_compiler())
    assert newcomer.cesta("install") == f"{made}\n"
    assert list(newcomer.folder.iterdir()) == []


def test_the_version_names_the_commit_of_the_build_and_triton(
    installation: Installation, built_wheels: Distributions
) -> None:
    commit = built_wheels.files("cesta")["operations/shipped/commit"].decode().strip()
    line = installation.cesta("--version")
    assert re.fullmatch(
        rf"cesta {re.escape(__version__)} \(commit {re.escape(commit)}\), Triton 2\.\d+\.\d+\n", line
    )
