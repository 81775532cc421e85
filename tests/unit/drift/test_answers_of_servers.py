"""`cesta drift --server` where something else answers than a supervisor of this version."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from export_scripts.commands.drift import drift
from operations.errors import CestaError

REFERENCE = {"first": "2024-01-01", "last": "2024-03-01"}
FINDING = {"feature": "basket_size", "window": "hour", "distance": 0.1, "low": 0.0, "high": 0.2}
FINDING |= {"threshold": 0.3, "observations": 900, "changes": []}


class Door(BaseHTTPRequestHandler):
    """Answers every request with `body`."""

    body = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def told(finding: object) -> dict[str, object]:
    window = {"questions": 900, "seconds": 3600, "complete": True, "findings": [finding]}
    return {"release": 1, "reference": REFERENCE, "reason": None, "windows": {"hour": window}}


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {},
        None,
        {"reference": None},
        {"reference": {}},
        told({}),
        told([]),
        told(FINDING | {"changes": [{}]}),
    ],
)
def test_an_answer_of_something_else_is_one_sentence(
    address: str, answer: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Door, "body", json.dumps(answer).encode())
    with pytest.raises(
        CestaError, match=rf"^{address} answers /v1/drift with something else .* this version\?$"
    ):
        drift(tmp_path, server=address)
    assert not any(tmp_path.iterdir())


def test_a_feature_that_only_a_newer_server_has_is_left_out(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = told(FINDING)
    answer["windows"]["hour"]["findings"].append(FINDING | {"feature": "weather", "low": 0.9})  # type: ignore[index]
    monkeypatch.setattr(Door, "body", json.dumps(answer).encode())
    drift(tmp_path, server=address)
    assert "basket_size" in (printed := capsys.readouterr().out)
    assert "weather" not in printed
