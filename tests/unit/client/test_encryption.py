"""The client over TLS."""

import shutil
import ssl
import subprocess
from contextlib import contextmanager

import grpc
import pytest

from cesta_client import Unavailable
from tests.running.scripted_shops import GrpcShop, HttpShop, ask, every_client, every_protocol, serve


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if not shutil.which("openssl"):
        pytest.skip("needs the openssl command to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
            "-days",
            "1",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


@every_client
@every_protocol
def test_ssl_encrypts_and_checks_the_certificate(kind, protocol, certificate):
    with secure_shop(protocol, certificate) as shop:
        options = {"protocol": protocol, "ssl": True}
        assert (
            ask(kind, shop.address, root_certificates=certificate / "cert.pem", **options)[0].item_id
            == "bread"
        )
        with pytest.raises(Unavailable):  # the system's authorities do not know it
            ask(kind, shop.address, **options)


@contextmanager
def secure_shop(protocol, certificate):
    key, cert = certificate / "key.pem", certificate / "cert.pem"
    if protocol == "grpc":
        shop = GrpcShop(credentials=grpc.ssl_server_credentials([(key.read_bytes(), cert.read_bytes())]))
        yield shop
        shop.server.stop(None).wait()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        with serve(HttpShop(context)) as shop:
            yield shop
