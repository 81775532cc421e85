"""TLS ends at the gateway, with a certificate and key in files; the gateway refuses old versions of TLS."""

from __future__ import annotations

import json
import ssl
import subprocess
from pathlib import Path

import pytest

from cesta_client import Recommender, Unavailable
from operations.server.process import Server
from tests.running.door import Door, OpenDoor

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "tls.crt", folder / "tls.key"
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    written = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", "req", "-x509", *curve, *name, *written], check=True, capture_output=True)
    return certificate, key


@pytest.fixture(scope="module")
def sealed(open_gateway: OpenDoor, triton: Server, pair: tuple[Path, Path]) -> Door:
    certificate, key = pair
    return open_gateway(triton_http=triton.http, certificate=certificate, certificate_key=key)


@pytest.mark.parametrize("wire", ["grpc", "http"])
def test_the_client_checks_the_certificate(sealed: Door, pair: tuple[Path, Path], wire: str) -> None:
    address = sealed.settings.grpc if wire == "grpc" else sealed.settings.http
    options = {"protocol": wire, "api_key": sealed.keys["shop"], "ssl": True, "timeout_s": 5}
    with Recommender(address, root_certificates=pair[0], **options) as shop:  # type: ignore[arg-type]
        assert len(shop.recommend(["i1"])) == 10
    with Recommender(address, **options) as stranger, pytest.raises(Unavailable):  # type: ignore[arg-type]
        stranger.recommend(["i1"])


def test_plain_http_is_told_so(sealed: Door) -> None:
    answer = sealed.ask("/v1/recommend", {})
    assert (answer.status, answer.error) == (400, "this port speaks TLS; use https")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(("version", "spoken"), [("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)])
def test_only_modern_versions_are_spoken(
    sealed: Door, pair: tuple[Path, Path], version: str, spoken: bool
) -> None:
    context = ssl.create_default_context(cafile=str(pair[0]))
    context.set_ciphers("DEFAULT@SECLEVEL=0")  # or this side would not offer the old ones
    context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version)
    with sealed.connect() as plain:
        if spoken:
            with context.wrap_socket(plain, server_hostname="localhost") as secure:
                assert secure.version() == version.replace("_", ".")
        else:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                context.wrap_socket(plain, server_hostname="localhost")


def test_errors_are_json_over_tls_too(sealed: Door, pair: tuple[Path, Path]) -> None:
    context = ssl.create_default_context(cafile=str(pair[0]))
    with sealed.connect() as plain, context.wrap_socket(plain, server_hostname="localhost") as secure:
        secure.sendall(b"GET /v2/repository/index HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        received = b"".join(iter(lambda: secure.recv(65536), b""))
    assert received.startswith(b"HTTP/1.1 404 ")
    assert json.loads(received.partition(b"\r\n\r\n")[2])["error"] == "no such path"
