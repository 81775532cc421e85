"""`cesta serve` in places of odd names, with a proxy in the environment, and on each kind of host."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from operations.releases.promote import promote
from operations.releases.publish import publish
from operations.releases.repository import active_release
from operations.releases.stores.store import open_repository
from operations.server.environment import find_serving_environment
from tests.building import TOY_SAMPLER
from tests.running import needs
from tests.running.proxy import ANSWERS, open_proxy
from tests.running.supervised import CESTA, Supervised

pytestmark = [pytest.mark.triton, pytest.mark.timeout(180)]

ODD = "a b;$HOME \"q' %d#\u00e9{x}:\n\\z"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of an odd name with a user's whole world; release 1 of its repository is active, 2 is not."""
    from tests.building.runs import toy_run  # not above: it imports torch

    needs.a_tritonserver()
    odd = tmp_path / ODD
    for variable, name in (("XDG_STATE_HOME", "state"), ("XDG_CACHE_HOME", "cache"), ("TMPDIR", "tmp")):
        (odd / name).mkdir(parents=True)
        monkeypatch.setenv(variable, str(odd / name))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    (odd / "environment").symlink_to(find_serving_environment().root)
    monkeypatch.setenv("CESTA_SERVING_ENV", str(odd / "environment"))
    monkeypatch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
    repository = open_repository(odd / "repository")
    for seed in (1, 2):
        publish(toy_run(tmp_path / f"run-{seed}", seed), repository)
    promote(repository, 1)
    return odd


@contextlib.contextmanager
def serving(repository: Path, *options: str) -> Iterator[Supervised]:
    running = Supervised(repository, *options)
    try:
        yield running
        assert running.end() == 0
    finally:
        running.kill()


def cesta(*words: object) -> str:
    done = subprocess.run([*CESTA, *map(str, words)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("answer", ANSWERS)
def test_every_command_works_in_an_odd_place_behind_a_proxy(
    shop: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """The proxy answers nothing useful, or nothing at all, and is never asked."""
    place = f"--repository={shop / 'repository'}"
    with open_proxy(ANSWERS[answer]) as company:
        for name, value in company.variables().items():
            monkeypatch.setenv(name, value)
        with serving(shop / "repository") as running:
            at = f"--address={running.addresses['grpc']}"
            assert '"release": 1' in cesta("ask", "--json", "--basket=i1", at)
            http = (f"--address={running.addresses['http']}", "--protocol=http")
            assert '"release": 1' in cesta("ask", "--json", "--basket=i1", *http)
            assert "release 2 is active at 127.0.0.1" in cesta("release", "promote", 2, "--force", place, at)
            assert '"release": 2' in cesta("ask", "--json", "--basket=i1", at)
            assert "release 1 gets 5 %" in cesta("release", "canary", 1, "--force", place, at)
            assert "release 1 is active" in cesta("release", "rollback", place, at)
            for verb in (("list",), ("verify", 1), ("show", 1), ("diff", 1, 2)):
                cesta("release", *verb, place)
            assert "nothing to retire" in cesta("release", "retire", place, at)
        assert not company.asked
    assert active_release(open_repository(shop / "repository")) == 1


@pytest.mark.parametrize(
    ("host", "shown"),
    [("::1", "[::1]:"), ("::", "[::]:"), ("localhost", "127.0.0.1:"), ("0.0.0.0", "0.0.0.0:")],
)
def test_a_server_listens_on_the_host_of_its_option(shop: Path, host: str, shown: str) -> None:
    """All four of its ports; the addresses that it prints can be given to other commands."""
    with serving(shop / "repository", f"--host={host}", "--old-triton=expose") as running:
        assert all(address.startswith(shown) for address in running.addresses.values())
        for protocol in ("grpc", "http"):
            at = (f"--address={running.addresses[protocol]}", f"--protocol={protocol}")
            assert '"release": 1' in cesta("ask", "--json", "--basket=i1", *at)
        assert running.ask("/readyz") == (200, {"ready": True, "release": 1})
        assert "release 2 is active" in cesta(
            *("release", "promote", 2, "--force", f"--repository={shop / 'repository'}"),
            f"--address={running.addresses['grpc']}",
        )
