"""Which answers mean that no server runs: a refused connection, and nothing else."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from click.testing import Result
from tritonclient.grpc import service_pb2, service_pb2_grpc
from typer.testing import CliRunner

from operations.cli import make_app
from operations.errors import CestaError
from operations.releases.model_control import ModelControl
from operations.releases.promote import promote
from operations.releases.publish import publish
from operations.releases.repository import active_release
from operations.releases.serving_mark import mark_served
from operations.releases.stores.store import open_repository
from tests.building import TOY_SAMPLER
from tests.running.proxy import ANSWERS, Proxy, open_proxy, proxy

__all__ = ["proxy"]

pytestmark = pytest.mark.timeout(30)


class Living(service_pb2_grpc.GRPCInferenceServiceServicer):
    """A Triton that says only that it lives."""

    def ServerLive(self, request, context):  # noqa: N802 - the name in Triton's protocol
        return service_pb2.ServerLiveResponse(live=True)


@pytest.fixture
def living() -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(1))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Living(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture
def refusing() -> Iterator[str]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # taken, and nobody listens
        yield f"127.0.0.1:{bound.getsockname()[1]}"


def is_there(address: str) -> bool:
    with ModelControl(address, "") as control:
        return control.is_there(timeout_s=1)


def test_a_proxy_is_not_asked_whether_a_server_runs(living: str, refusing: str, proxy: Proxy) -> None:
    assert is_there(living)
    assert is_there(living.replace("127.0.0.1", "localhost"))
    assert not is_there(refusing)
    assert not proxy.asked


@pytest.mark.parametrize("answer", [b"HTTP/1.1 503 Service Unavailable\r\n\r\n", b"", None])
def test_a_program_that_does_not_speak_grpc_may_still_be_a_server(answer: bytes | None) -> None:
    """Such as Triton's HTTP port, a gateway, or a server that hangs: nothing must be changed behind it."""
    with open_proxy(answer) as listening:
        began = time.monotonic()
        with pytest.raises(CestaError, match="listens and does not answer as Triton's gRPC"):
            is_there(listening.address.removeprefix("http://"))
        assert time.monotonic() - began < 30


def test_a_host_that_cannot_be_found_is_not_a_server_that_does_not_run() -> None:
    with pytest.raises(
        CestaError, match=r"no-such-host\.invalid:8001 cannot be reached .*; correct the addr"
    ):
        is_there("no-such-host.invalid:8001")


@pytest.mark.parametrize(
    "address", ["localhost", ":8001", "localhost:grpc", "http://localhost:8001", "::1:8001"]
)
def test_what_is_no_address_says_how_one_is_written(address: str) -> None:
    with pytest.raises(CestaError, match="is not an address; write host:port"):
        is_there(address)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose release 1 is active and whose release 2 is not."""
    from tests.building.runs import make_run  # not above: it imports torch

    monkeypatch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
    repository = open_repository(tmp_path / "repository")
    for seed in (1, 2):
        publish(make_run(tmp_path / f"run-{seed}", seed), repository)
    promote(repository, 1)
    return tmp_path / "repository"


def cesta(*words: object) -> Result:
    return CliRunner().invoke(make_app(), [str(word) for word in words])


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "verb", [("promote", 2, "--force"), ("canary", 2, "--force"), ("rollback",), ("retire", "--keep=2")]
)
@pytest.mark.parametrize("by_variables", [False, True])
def test_an_address_that_was_given_and_does_not_answer_changes_nothing(
    place: Path, refusing: str, verb: tuple[object, ...], by_variables: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be mistyped, and the server that runs would go on with the old release."""
    before = contents(place)
    options: tuple[str, ...] = (f"--repository={place}", f"--address={refusing}")
    if by_variables:  # as in the containers
        monkeypatch.setenv("CESTA_REPOSITORY", str(place))
        monkeypatch.setenv("CESTA_ADDRESS", refusing)
        options = ()
    done = cesta("release", *verb, *options)
    assert isinstance(done.exception, CestaError)
    assert f"no server listens at {refusing}, so nothing was changed; correct --addr" in str(done.exception)
    assert contents(place) == before


def test_without_an_address_the_next_start_is_changed_and_the_place_looked_at_named(
    place: Path, refusing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operations.commands.release.ADDRESS", refusing)
    with open_proxy(ANSWERS["503"]) as company:
        for name, value in company.variables().items():
            monkeypatch.setenv(name, value)
        done = cesta("release", "promote", 2, "--force", f"--repository={place}")
        assert not company.asked
    assert done.exit_code == 0
    assert f"no server at {refusing} (--address names another): this changes what the next" in done.stdout
    assert active_release(open_repository(place)) == 2


@pytest.mark.parametrize(
    "verb", [("promote", 2, "--force"), ("canary", 2, "--force"), ("rollback",), ("retire", "--keep=2")]
)
def test_a_server_elsewhere_or_in_a_restart_is_not_changed_behind_its_back(
    place: Path, refusing: str, monkeypatch: pytest.MonkeyPatch, verb: tuple[object, ...]
) -> None:
    """Nobody listens at the usual address, and `cesta serve` lives: its server would serve it untried."""
    monkeypatch.setattr("operations.commands.release.ADDRESS", refusing)
    before = contents(place)
    with mark_served(open_repository(place)):
        done = cesta("release", *verb, f"--repository={place}")
        assert isinstance(done.exception, CestaError)
        assert f"no server listens at {refusing}, but one may serve {place}" in str(done.exception)
        assert contents(place) == before
        assert cesta("release", "promote", 2, "--force", "--offline", f"--repository={place}").exit_code == 0


def test_a_server_behind_a_proxy_s_back_is_told(
    place: Path, living: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This one refuses to change anything, so the disk does not change, and the error is its own."""
    monkeypatch.setattr("operations.commands.release.ADDRESS", living)
    before = active_release(open_repository(place))
    done = cesta("release", "promote", 2, "--force", f"--repository={place}")
    assert isinstance(done.exception, CestaError)
    assert not proxy.asked
    assert active_release(open_repository(place)) == before


def test_a_gateway_s_folder_that_is_mistyped_is_not_made(place: Path, tmp_path: Path) -> None:
    done = cesta("serve", f"--repository={place}", f"--gateway={tmp_path / 'typo'}")
    assert isinstance(done.exception, CestaError)
    assert f"--gateway {tmp_path / 'typo'} is no folder; make a gateway's folder" in str(done.exception)
    assert not (tmp_path / "typo").exists()
