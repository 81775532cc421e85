"""Release commands through a gateway elsewhere: what is sent, what is refused, what an error says."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from operations.commands.release import promote
from operations.errors import BeingChanged, CestaError, NoAnswer
from operations.gateway.remote import KEY, KEY_FILE, SENT_AGAIN, RemoteGateway, read_admin_key

RECORD = {"what": "promote", "release": 7, "before": 6, "server": "triton:8001", "seconds": {"load": 0.5}}


def operation(state: str, **known: Any) -> bytes:
    return json.dumps({"id": "o1", "state": state, "result": None, "failure": None} | known).encode()


SUCCEEDED = operation("succeeded", result=RECORD)


class Scripted(ThreadingHTTPServer):
    """Answers as told, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.asked: list[tuple[str, str, str | None, Any]] = []  # method, path, authorization, body
        self.answer: tuple[int, dict[str, str], bytes] = (202, {}, SUCCEEDED)
        self.next: list[tuple[int, dict[str, str], bytes]] = []  # before `answer`
        self.keys: list[str | None] = []  # Idempotency-Key of each request
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(BaseHTTPRequestHandler):
    server: Scripted

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = self.command, self.path, self.headers.get("Authorization"), json.loads(body or b"null")
        self.server.asked.append(asked)
        self.server.keys.append(self.headers.get("Idempotency-Key"))
        status, headers, content = self.server.next.pop(0) if self.server.next else self.server.answer
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST  # noqa: N815 - the names of the library

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[Scripted]:
    with Scripted() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_each_command_is_a_request_of_the_api(gateway: Scripted) -> None:
    """Method, path and body are those of docs/openapi.yaml."""
    remote = RemoteGateway(f"{gateway.url}/", "secret")
    assert remote.promote(7) == RECORD
    remote.promote(7, force=True)
    remote.canary(7, 2.5)
    remote.roll_back()
    remote.releases()
    remote.promote(7, expected=6)
    remote.roll_back(expected=7)
    key = "Bearer secret"
    assert gateway.asked == [
        ("POST", "/admin/releases/7/promote", key, {"force": False}),
        ("POST", "/admin/releases/7/promote", key, {"force": True}),
        ("POST", "/admin/releases/7/canary", key, {"percent": 2.5, "force": False}),
        ("POST", "/admin/rollback", key, {}),
        ("GET", "/admin/releases", key, None),
        ("POST", "/admin/releases/7/promote", key, {"force": False, "expected_release": 6}),
        ("POST", "/admin/rollback", key, {"expected_release": 7}),
    ]
    assert gateway.keys[4] is None
    assert len(set(gateway.keys)) == 7  # each change has a key of its own


def test_a_change_is_asked_about_until_it_has_ended(
    gateway: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway may be away meanwhile, or refuse to be asked so often."""
    monkeypatch.setattr("operations.gateway.remote.FIRST_WAIT_S", 0.001)
    busy = b'{"error": "too many requests"}'
    running = operation("running")
    gateway.next = [(202, {}, running), (200, {}, running), (429, {}, busy), (502, {}, b"")]
    assert RemoteGateway(gateway.url, "secret").promote(7) == RECORD
    paths = [(method, path) for method, path, _, _ in gateway.asked]
    assert paths == [("POST", "/admin/releases/7/promote"), *[("GET", "/admin/operations/o1")] * 4]


@pytest.mark.parametrize(
    ("state", "status", "error"),
    [("failed", 409, CestaError), ("failed", 503, BeingChanged), ("interrupted", 500, NoAnswer)],
)
def test_a_change_that_failed_is_an_error(
    gateway: Scripted, state: str, status: int, error: type[CestaError]
) -> None:
    gateway.answer = (200, {}, operation(state, failure={"status": status, "error": "load: no room"}))
    with pytest.raises(error, match=f"/admin/rollback: {status}: load: no room") as raised:
        RemoteGateway(gateway.url, "secret").roll_back()
    assert type(raised.value) is error


def test_the_loop_asks_for_traffic_and_retirement(gateway: Scripted) -> None:
    remote, key = RemoteGateway(gateway.url, "secret"), "Bearer secret"
    gateway.next = [(202, {}, operation("succeeded", result={"retired": [3, 4]}))]
    assert remote.retire(3) == [3, 4]
    gateway.answer = (200, {}, b'{"active": 7, "canary": null, "counts": null}')
    assert remote.traffic()["active"] == 7
    assert gateway.asked == [
        ("POST", "/admin/retire", key, {"keep": 3}),
        ("GET", "/admin/traffic", key, None),
    ]


def test_a_refusal_is_the_gateway_s_sentence(gateway: Scripted) -> None:
    gateway.answer = (409, {}, b'{"error": "load: no room", "request_id": "1"}')
    with pytest.raises(CestaError, match=r"/admin/releases/7/promote: 409: load: no room$"):
        RemoteGateway(gateway.url, "secret").promote(7)


def test_a_stranger_s_answer_is_not_shown(gateway: Scripted) -> None:
    gateway.answer = (404, {}, b"<html>")
    with pytest.raises(CestaError, match="404: Not Found; is this cesta's gateway"):
        RemoteGateway(gateway.url, "secret").roll_back()


def test_the_key_does_not_follow_a_redirect(gateway: Scripted) -> None:
    gateway.answer = (302, {"Location": f"{gateway.url}/elsewhere"}, b"")
    with pytest.raises(CestaError, match="302"):
        RemoteGateway(gateway.url, "secret").releases()
    assert [path for _, path, _, _ in gateway.asked] == ["/admin/releases"]


def test_a_gateway_that_is_not_there_has_changed_nothing(gateway: Scripted) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    for url in (nobody, gateway.url.replace("http:", "https:")):
        with pytest.raises(CestaError, match=r"no answer \(.+\); does the gateway run at this address"):
            RemoteGateway(url, "secret").roll_back()


def test_a_change_whose_answer_is_lost_is_asked_for_again_and_made_once(
    gateway: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second request has the Idempotency-Key of the first."""
    monkeypatch.setattr("operations.gateway.remote.FIRST_WAIT_S", 0.001)
    gateway.next = [(504, {}, b'{"error": "the supervisor took too long"}')]
    assert RemoteGateway(gateway.url, "secret").promote(7) == RECORD
    assert len(gateway.asked) == 2
    assert len(set(gateway.keys)) == 1


def test_a_gateway_that_hangs_up_may_have_changed_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operations.gateway.remote.FIRST_WAIT_S", 0.001)

    def hang_up() -> None:
        for _ in range(SENT_AGAIN):
            asked, _ = listener.accept()
            asked.recv(2**16)
            asked.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=hang_up).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(CestaError, match=r"no answer \(.+\); list the releases"):
            RemoteGateway(url, "secret").roll_back()


@pytest.mark.parametrize(
    "url",
    [
        *("shop.example", "ftp://shop.example", "https://", "https://shop.example/v1"),
        *("https://shop.example#a", "https://user@shop.example", "https://[::1", "https://shop.example:port"),
    ],
)
def test_what_is_no_gateway_is_refused(url: str) -> None:
    with pytest.raises(CestaError, match="is not a gateway; write https://host"):
        RemoteGateway(url, "secret")


def test_a_key_does_not_travel_unencrypted() -> None:
    with pytest.raises(CestaError, match="would send the admin key unencrypted"):
        RemoteGateway("http://shop.example", "secret")
    RemoteGateway("http://10.0.0.8:8080", "secret")


def test_the_key_comes_from_a_file_or_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from-a-file\n")
    assert read_admin_key({KEY_FILE: str(file), KEY: "of-a-variable"}) == "from-a-file"
    assert read_admin_key({KEY: "of-a-variable"}) == "of-a-variable"
    with pytest.raises(CestaError, match=f"no admin key: set {KEY_FILE} or {KEY}"):
        read_admin_key({})
    with pytest.raises(CestaError, match="cannot be read: No such file"):
        read_admin_key({KEY_FILE: str(tmp_path / "other")})


@pytest.mark.parametrize("content", [b"first\nsecond\n", b"two words", b"\xff\xfe"])
def test_a_key_that_no_header_can_hold_is_refused_unseen(tmp_path: Path, content: bytes) -> None:
    """Python's own error would print it."""
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(CestaError, match="set CESTA_ADMIN_KEY_FILE or") as refused:
        read_admin_key({KEY_FILE: str(tmp_path / "key")})
    assert "second" not in str(refused.value)


@pytest.mark.parametrize("options", [{"offline": True}, {"settings": Path("shop.toml")}])
def test_options_without_effect_are_refused(gateway: Scripted, options: dict[str, Any]) -> None:
    with pytest.raises(CestaError, match="leave out --offline and --settings"):
        promote(7, gateway=gateway.url, **options)
    assert gateway.asked == []
