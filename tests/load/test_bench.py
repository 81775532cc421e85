"""The bench reports what it could not measure."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import loadtests.bench.__main__ as bench
from loadtests import tables
from loadtests.bench.measure import Plan
from loadtests.bench.results import Measured
from loadtests.running.environments import NotInstalledError, ensure_environment
from loadtests.running.servers import SERVERS
from operations.outputs import Outputs

ROW = Measured("any", "peer", "HTTP JSON", "off", 1, 10.0, 1.0, 2.0, 0, {"worker": 5.0}, 0.1, 9.0)


class NoMaterial:
    about = {"questions": 1, "different": 1}  # noqa: RUF012 - nobody changes it


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Results of two repetitions in which Ray Serve cannot be installed."""

    def measure(server: Any, *_: object) -> Iterator[Measured]:
        if server.name == "Ray Serve":
            raise NotInstalledError("ERROR: no wheel of ray for this machine")
        yield ROW

    monkeypatch.setattr(bench, "prepare", lambda *_: NoMaterial())
    monkeypatch.setattr(bench, "measure_server", measure)
    monkeypatch.setattr(bench, "measure_limit", lambda *_: iter([ROW]))
    silent = Console(file=io.StringIO())
    return bench.run(Outputs(tmp_path), Plan(tmp_path, repetitions=2), SERVERS, silent)


def test_a_server_that_cannot_be_installed_is_reported(results: dict[str, Any]) -> None:
    """The file, the terminal's table and the document's table name it."""
    reason = "ERROR: no wheel of ray for this machine"
    assert results["not_measured"] == {"Ray Serve": reason}
    page = io.StringIO()
    tables.show(results, Console(file=page, width=200))
    assert f"Ray Serve was not measured: {reason}" in page.getvalue()
    assert f"| Ray Serve | {reason} |" in tables.sections(results | {"busy_cores_before": 0})["refused"]


def test_the_release_s_share_of_the_whole_catalog_is_told(tmp_path: Path) -> None:
    """The share comes from metrics.json in the release's folder; without the file it was not measured."""
    assert bench._catalog_share(Outputs(tmp_path)) is None
    (tmp_path / "metrics.json").write_text(json.dumps({"full_catalog": {"known": {"ndcg_loss": 0.0055}}}))
    assert bench._catalog_share(Outputs(tmp_path)) == 0.9945


def test_the_share_stands_among_the_ratios(results: dict[str, Any]) -> None:
    """It has the digits that its target, 0.99, needs."""
    row = "| the release's NDCG@10 as a share of scoring the whole catalog"
    assert f"{row} | not measured |" in tables.sections(results | {"busy_cores_before": 0})["ratios"]
    results["ratios"]["ndcg_share_of_whole_vocabulary"] = 0.9945
    assert f"{row} | 0.9945 |" in tables.sections(results | {"busy_cores_before": 0})["ratios"]


def test_a_busy_machine_is_told_in_the_document(results: dict[str, Any]) -> None:
    assert "not for quoting" in tables.sections(results | {"busy_cores_before": 1.5})["run"]
    assert "not for quoting" not in tables.sections(results | {"busy_cores_before": 0.0})["run"]


def test_every_peer_with_pins_is_a_server() -> None:
    pinned = {path.stem for path in (Path(tables.__file__).parent / "peers").glob("*.txt")}
    assert pinned == {server.peer for server in SERVERS if server.peer}


def test_every_app_of_a_peer_is_a_server() -> None:
    """A module that is run with a port. torch_scoring scores offline."""
    folder = Path(tables.__file__).parent / "peers"
    programs = {path.stem for path in folder.glob("*.py") if "__main__" in path.read_text(encoding="utf-8")}
    assert programs - {"torch_scoring"} == {server.module for server in SERVERS if server.module}


def test_an_environment_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    """The stamp of the environment holds the hash of the pinned versions."""
    import hashlib

    pins = Path(tables.__file__).parent / "peers" / "litserve.txt"
    (tmp_path / "litserve").mkdir()
    (tmp_path / "litserve" / ".installed").write_text(hashlib.sha256(pins.read_bytes()).hexdigest())
    assert ensure_environment("litserve", tmp_path) == tmp_path / "litserve" / "bin" / "python"
