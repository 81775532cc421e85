"""Model control belongs to the operator: Triton refuses it without the secret, which `ps` does not show."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from operations.errors import CestaError
from operations.records.manifest import ContractRecord
from operations.releases.model_control import ModelControl
from operations.releases.models.configs import part_config
from operations.server.control_secret import GRPC_HEADER, HTTP_HEADER, VARIABLE
from operations.server.process import Server
from tests.running.processes import children, command

pytestmark = [pytest.mark.triton, pytest.mark.timeout(60)]

# Each must do no harm when it is allowed.
HTTP_VERBS = [
    ("POST", "repository/index", b""),
    ("POST", "repository/models/nothing/load", b"{}"),
    ("POST", "repository/models/nothing/unload", b"{}"),
    ("GET", "systemsharedmemory/status", None),
    ("POST", "systemsharedmemory/region/x/register", b'{"key": "/nothing", "offset": 0, "byte_size": 4}'),
    ("POST", "systemsharedmemory/unregister", b""),
    ("GET", "cudasharedmemory/status", None),
    ("POST", "cudasharedmemory/region/x/register", b"{}"),
    ("POST", "cudasharedmemory/unregister", b""),
    ("GET", "trace/setting", None),
    ("POST", "trace/setting", b"{}"),
    ("GET", "models/nothing/trace/setting", None),
    ("POST", "models/nothing/trace/setting", b"{}"),
    ("GET", "logging", None),
    ("POST", "logging", b"{}"),
]
GRPC_VERBS = [
    ("get_model_repository_index",),
    ("load_model", "nothing"),
    ("unload_model", "nothing"),
    ("get_system_shared_memory_status",),
    ("register_system_shared_memory", "x", "/nothing", 4),
    ("unregister_system_shared_memory",),
    ("get_cuda_shared_memory_status",),
    ("register_cuda_shared_memory", "x", b"", 0, 4),
    ("unregister_cuda_shared_memory",),
    ("get_trace_settings",),
    ("update_trace_settings",),
    ("get_log_settings",),
    ("update_log_settings", {}),
]
WRONG = [None, "", "not-the-secret-0123456789"]


@pytest.fixture(scope="module")
def server(start_server: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without a model: the restriction does not depend on one."""
    server = start_server(tmp_path_factory.mktemp("nothing"), models=())
    yield server
    server.stop(grace_s=0)


def over_http(server: Server, method: str, path: str, body: bytes | None, secret: str | None) -> int:
    headers = {} if secret is None else {HTTP_HEADER: secret}
    request = Request(f"http://{server.http}/v2/{path}", body, headers, method=method)
    try:
        with urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code


def over_grpc(client: triton.InferenceServerClient, verb: str, *values: object, secret: str | None) -> str:
    """The details of the refusal, "" if there is none."""
    try:
        getattr(client, verb)(*values, headers={} if secret is None else {GRPC_HEADER: secret})
    except InferenceServerException as error:
        return str(error.message())
    return ""


@pytest.mark.parametrize(("method", "path", "body"), HTTP_VERBS, ids=lambda value: str(value))
def test_http_wants_the_secret(server: Server, method: str, path: str, body: bytes | None) -> None:
    """Triton answers 403 without the secret and with another one; with it the verb itself answers."""
    assert [over_http(server, method, path, body, secret) for secret in WRONG] == [403] * 3
    assert over_http(server, method, path, body, server.settings.control_secret) not in (403, 404)


@pytest.mark.parametrize("verb", GRPC_VERBS, ids=lambda verb: verb[0])
def test_grpc_wants_the_secret(server: Server, verb: tuple[object, ...]) -> None:
    """Triton refuses by name of the header without the secret and with another one; with it the verb itself
    answers.
    """
    with triton.InferenceServerClient(server.grpc) as client:
        for secret in WRONG:
            assert GRPC_HEADER in over_grpc(client, *verb, secret=secret)
        assert GRPC_HEADER not in over_grpc(client, *verb, secret=server.settings.control_secret)


def test_health_and_metadata_are_open(server: Server) -> None:
    """Probes and clients ask for these; the other tests of this folder cover inference."""
    for path in ("health/live", "health/ready", "models/stats"):
        assert over_http(server, "GET", path, None, None) == 200
    with triton.InferenceServerClient(server.grpc) as client:
        assert client.is_server_ready()
        assert client.get_server_metadata().name == "triton"


@pytest.mark.parametrize(("secret", "what"), [("", "missing"), ("not-the-secret-0123456789", "wrong")])
def test_the_release_commands_say_what_to_set(server: Server, secret: str, what: str) -> None:
    with ModelControl(server.grpc, secret) as control:
        for verb in (
            lambda: control.states("recommender"),
            lambda: control.load(part_config("ncf_scorer", ContractRecord(), {1})),
        ):
            with pytest.raises(CestaError, match=rf"secret is {what}; .*{VARIABLE}"):
                verb()


def test_no_process_shows_the_secret(server: Server) -> None:
    """No command line of the server or a child holds it, nor the environment that stubs inherit."""
    secret = server.settings.control_secret
    assert len(secret) > 16
    shown = [command(pid) for pid in (server.pid, *children(server.pid))]
    assert secret not in json.dumps(shown)
    assert f"{HTTP_HEADER}={'x' * len(secret)}" in json.dumps(shown[0])
    assert secret.encode() not in Path(f"/proc/{server.pid}/environ").read_bytes()
    assert secret not in repr(server.settings)
