"""Servers that cannot start: they say so in one sentence and end, instead of starting for ever."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from operations.server.environment import find_serving_environment
from operations.server.process import Server, ServerError
from operations.server.runtime_folder import sweep
from tests.building import TOY_SAMPLER
from tests.building.installed_triton import lay_out_triton
from tests.running.supervised import CESTA, FREE_PORTS
from tests.running.toy_shop import ToyShop

pytestmark = [pytest.mark.triton, pytest.mark.timeout(60)]

ENDED = "the process of a Python model {how} while tritonserver loaded it: {words}"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, start_server: Callable[..., Server]) -> Path:
    """One toy release, promoted."""
    root = tmp_path_factory.mktemp("promoted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
        shop = ToyShop(root, start_server)
        shop.first(1)
        shop.close()
    return root / "repository"


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_server: Callable[..., Server]) -> Path:
    """The stub of a tritonserver of this test's own."""
    installation = lay_out_triton(tmp_path / "tritonserver")
    monkeypatch.setenv("CESTA_TRITON", str(installation))
    return installation / "backends" / "python" / "triton_python_backend_stub"


def serve(repository: Path) -> tuple[int, str]:
    """Run `cesta serve`, which must end by itself: its exit code and the last line of its stderr."""
    command = [*CESTA, "serve", f"--repository={repository}", *FREE_PORTS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert sweep() == []  # it left nothing behind
    assert "ready:" not in done.stdout
    return done.returncode, done.stderr.splitlines()[-1]


def test_a_stub_without_its_libpython_is_refused_before_the_start(repository: Path, stub: Path) -> None:
    """Debian keeps libpython in a package of its own."""
    library = f"libpython{find_serving_environment().python_version}.so".encode()
    stub.write_bytes(stub.read_bytes().replace(library + b".1.0", library + b".1.9"))
    code, sentence = serve(repository)
    assert code == 1
    assert sentence.startswith(f"{stub} cannot be started without {library.decode()}.1.9; ")


@pytest.mark.parametrize(
    ("script", "how", "words"),
    [
        (
            "echo 'Fatal Python error: no encodings' >&2; exit 1",
            "ended with 1",
            "Fatal Python error: no encodings",
        ),
        ("kill -SEGV $$", "was killed by signal 11", "it printed nothing"),
    ],
)
def test_a_stub_that_dies_at_its_start_ends_the_server(
    repository: Path, stub: Path, script: str, how: str, words: str
) -> None:
    """Triton itself would wait for it for ever."""
    stub.write_text(f"#!/bin/sh\n{script}\n")
    sentence = f"release 1 cannot be served: {ENDED.format(how=how, words=words)}"
    assert serve(repository) == (1, sentence)


def test_a_server_without_a_supervisor_notices_too(
    repository: Path, stub: Path, start_server: Callable[..., Server]
) -> None:
    """`cesta demo` and `python -m operations.server` start one so."""
    stub.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(ServerError, match="^" + ENDED.format(how="ended with 3", words="it printed nothing")):
        start_server(repository)


def test_a_program_that_may_not_be_executed_is_named(repository: Path, stub: Path) -> None:
    """So does a disk that is mounted noexec."""
    stub.chmod(0o644)
    code, sentence = serve(repository)
    assert code == 1
    assert sentence.startswith(f"{stub} may not be executed; remount its disk with exec")


def test_a_program_of_another_machine_is_named(repository: Path, stub: Path) -> None:
    stub.write_bytes(b"\x7fELF, but not for this machine")
    code, sentence = serve(repository)
    assert (code, sentence) == (1, f"{stub} does not run on this machine (Exec format error)")
