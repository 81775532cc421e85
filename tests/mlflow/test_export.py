"""Releases of a repository in a real MLflow server: runs, versions, aliases, artifacts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from operations.releases.canary import start_canary
from operations.releases.promote import promote
from operations.releases.publish import publish
from operations.releases.stores.store import Repository, open_repository
from tests import ROOT
from tests.building import TOY_SAMPLER
from tests.building.runs import toy_run
from tests.running.door import free_ports
from tests.running.s3 import DIRECT

HOME = Path(os.environ.get("CESTA_MLFLOW_ENV", ROOT / "artifacts" / "mlflow")) / "bin"
START_S = 120
METRICS = {"known": {"n": 10, "hr_at_10": 0.25}, "protocol": {"queries": 10, "note": "not a number"}}


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server whose files are temporary."""
    if not (HOME / "mlflow").exists():
        pytest.skip(f'no MLflow in {HOME}: "make mlflow-test" makes an environment that has it')
    folder, port = tmp_path_factory.mktemp("mlflow"), free_ports(1)[0]
    place = [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    command = [HOME / "python", "-m", "mlflow", "server", *place, "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *command, "--workers", "1"],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + START_S
    while True:
        try:
            with DIRECT.open(f"{address}/health", timeout=5):
                break
        except OSError:
            assert server.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end, (folder / "log").read_text()
            time.sleep(0.3)
    yield address
    server.terminate()
    server.wait(30)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Release 1 is active, release 2 the canary release."""
    monkeypatch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
    repository = open_repository(tmp_path / "repository")
    for seed in (1, 2):
        publish(toy_run(tmp_path / f"run-{seed}", seed, metrics=METRICS), repository)
    promote(repository, 1)
    start_canary(repository, 2, 5)
    return repository


def export(server: str, repository: Repository, out: Path) -> str:
    words = [
        "release",
        "export-mlflow",
        "--server",
        server,
        "--repository",
        str(repository),
        "--out",
        str(out),
    ]
    done = subprocess.run([HOME / "cesta", *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ask(server: str, path: str, **query: str) -> Any:
    with DIRECT.open(f"{server}/api/2.0/mlflow/{path}?{urllib.parse.urlencode(query)}", timeout=30) as answer:
        return json.loads(answer.read())


def test_releases_become_versions_with_aliases(mlflow: str, repository: Repository, tmp_path: Path) -> None:
    """A second export adds nothing; after a promotion it moves the champion and ends the challenger.

    Release 1 of a repository that is made anew is another one, whatever its number.
    """
    out = tmp_path / "out"
    out.mkdir()
    (out / "metrics.json").write_text(json.dumps(METRICS))
    (out / "report.html").write_text("<p>report")
    assert "has 2 releases; added: 1, 2" in export(mlflow, repository, out)
    assert "has 2 releases; added: none" in export(mlflow, repository, out)
    model = ask(mlflow, "registered-models/get", name="cesta")["registered_model"]
    assert {a["alias"]: a["version"] for a in model["aliases"]} == {"champion": "1", "challenger": "2"}
    version = ask(mlflow, "model-versions/get", name="cesta", version="1")["model_version"]
    tags = {tag["key"]: tag["value"] for tag in version["tags"]}
    assert (tags["cesta.repository"], tags["cesta.release"]) == (str(repository), "1")
    run = ask(mlflow, "runs/get", run_id=version["run_id"])["run"]
    assert run["info"]["status"] == "FINISHED"
    assert {m["key"]: m["value"] for m in run["data"]["metrics"]} == {
        "known.n": 10,
        "known.hr_at_10": 0.25,
        "protocol.queries": 10,
    }
    files = ask(mlflow, "artifacts/list", run_id=version["run_id"])["files"]
    assert {file["path"] for file in files} == {"manifest.json", "report.html"}

    promote(repository, 2)
    export(mlflow, repository, out)
    model = ask(mlflow, "registered-models/get", name="cesta")["registered_model"]
    assert {a["alias"]: a["version"] for a in model["aliases"]} == {"champion": "2"}

    shutil.rmtree(str(repository))
    made_anew = open_repository(str(repository))
    publish(toy_run(tmp_path / "run-3", 3, metrics=METRICS), made_anew)
    promote(made_anew, 1)
    assert "added: 1" in export(mlflow, made_anew, out)
    model = ask(mlflow, "registered-models/get", name="cesta")["registered_model"]
    assert {a["alias"]: a["version"] for a in model["aliases"]} == {"champion": "3"}


def test_a_server_that_is_not_there_is_named(repository: Repository, tmp_path: Path) -> None:
    if not HOME.exists():
        pytest.skip("as above")
    words = [
        "release",
        "export-mlflow",
        "--server",
        f"http://127.0.0.1:{free_ports(1)[0]}",
        "--repository",
        str(repository),
    ]
    variables = {**os.environ, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "2"}
    done = subprocess.run(
        [HOME / "cesta", *words], capture_output=True, text=True, timeout=120, env=variables
    )
    assert done.returncode == 1
    assert "MLflow at http://127.0.0.1" in done.stderr.splitlines()[-1]
