"""`cesta serve` with the wheel's tritonserver, an old one: on loopback only, unless told otherwise."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import tritonclient.grpc as triton

from operations.releases.promote import promote
from operations.releases.publish import publish
from operations.releases.stores.store import open_repository
from operations.server.environment import find_serving_environment
from operations.server.version import MINIMUM, reported_version
from tests.building import TOY_SAMPLER
from tests.building.installed_triton import lay_out_triton
from tests.building.runs import toy_run
from tests.running.supervised import CESTA, FREE_PORTS, Supervised

pytestmark = [pytest.mark.triton, pytest.mark.timeout(120)]

ANYWHERE = "--host=0.0.0.0"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, start_server: object) -> Path:
    """One toy release, promoted."""
    root = tmp_path_factory.mktemp("promoted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
        repository = open_repository(root / "repository")
        promote(repository, publish(toy_run(root / "run", 1), repository))
    return root / "repository"


@pytest.mark.parametrize("beside_a_gateway", [False, True])
def test_an_old_server_is_not_served_beyond_loopback(
    repository: Path, tmp_path: Path, beside_a_gateway: bool
) -> None:
    """A gateway in front changes nothing: whoever reaches the address reaches Triton."""
    options = [f"--gateway={tmp_path}"] if beside_a_gateway else []
    command = [*CESTA, "serve", f"--repository={repository}", *FREE_PORTS, ANYWHERE, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert '--host "0.0.0.0" is refused' in done.stderr.splitlines()[-1]
    assert reported_version(find_serving_environment()) in done.stderr


def test_an_operator_s_word_exposes_it_and_the_supervisor_tells(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version is what the running server answers over gRPC."""
    monkeypatch.setenv("CESTA_OLD_TRITON", "expose")
    serving = Supervised(repository, ANYWHERE)
    try:
        with triton.InferenceServerClient(serving.addresses["grpc"]) as client:
            version = client.get_server_metadata().version
        warned = serving.event("old tritonserver is exposed")
        assert (warned["version"], warned["minimum"]) == (version, MINIMUM)
        told = {"version": version, "minimum": MINIMUM, "outdated": True, "exposed": True}
        assert serving.ask("/v1/status")[1]["triton"] == told
        metrics = serving.ask("/metrics")[1].splitlines()
        info = f'cesta_triton_info{{minimum="{MINIMUM}",version="{version}"}} 1.0'
        assert {info, "cesta_triton_outdated 1.0", "cesta_triton_exposed 1.0"} < {*metrics}
        assert serving.end() == 0
    finally:
        serving.kill()


def test_a_server_that_reports_the_minimum_may_be_exposed(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installation whose program is the wheel's, but tells another version when it is asked for it."""
    installation = lay_out_triton(tmp_path / "tritonserver")
    real = find_serving_environment().program
    (installation / "bin").unlink()
    (installation / "bin").mkdir()
    program = installation / "bin" / "tritonserver"
    program.write_text(
        "#!/bin/sh\n"
        f'case $1 in *=/dev/null) ;; *) exec {real} "$@" ;; esac\n'
        f"{real} \"$@\" 2>&1 | sed '/server_version/s/[0-9.]\\{{3,\\}} */{MINIMUM} /'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("CESTA_TRITON", str(installation))
    serving = Supervised(repository, ANYWHERE)
    try:
        told = {"version": MINIMUM, "minimum": MINIMUM, "outdated": False, "exposed": True}
        assert serving.ask("/v1/status")[1]["triton"] == told
        assert serving.end() == 0
    finally:
        serving.kill()
