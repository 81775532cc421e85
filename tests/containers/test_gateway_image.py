"""The gateway's image in front of the slim one: a shop's question crosses both."""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.containers.engine import Engine
from tests.containers.images import compose_options, service_variables
from tests.containers.serving import Serve

pytestmark = [pytest.mark.timeout(1800)]  # the first test builds the images


def options_of_gateway(secrets: Path, **variables: str) -> tuple[str, ...]:
    """Return what compose gives the gateway, but for networks and the folder that it shares."""
    given = service_variables("cesta-gateway") | variables
    return (
        *compose_options("cesta-gateway"),
        *(f"--env={name}={value}" for name, value in given.items()),
        f"--volume={secrets / 'tls_certificate.pem'}:/run/secrets/tls_certificate:ro",
        f"--volume={secrets / 'tls_key.pem'}:/run/secrets/tls_key:ro",
        "--publish=127.0.0.1::8080",
    )


def test_it_starts_alone_and_stops_in_order(engine: Engine, gateway_image: str, secrets: Path) -> None:
    """Without a supervisor it refuses strangers and is not healthy. It writes nothing but its state."""
    nobody = {"TRITON_HTTP": "127.0.0.1:8000", "SUPERVISOR_HTTP": "127.0.0.1:8003"}
    options = (*options_of_gateway(secrets, **nobody), "--read-only=false")
    with engine.container(gateway_image, options=options) as gateway:
        assert first_status(gateway.address(8080)) == 401
        assert not gateway.is_healthy()
        assert gateway.stop() == 0
        written = {path for kind, path in map(str.split, gateway.changes()) if kind == "A"}
        assert {path for path in written if not path.startswith("/run/")} == {"/gateway/run"}


def first_status(address: str) -> int:
    """Ask without a key until nginx listens, which no engine announces."""
    until = time.monotonic() + 30
    while True:
        try:
            ask(address, "cesta_stranger", {"basket": ["1"]})
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.1)


def test_a_shop_asks_through_the_gateway(
    engine: Engine, serve: Serve, gateway_image: str, repository: Path, secrets: Path
) -> None:
    """TLS, a key made beside the supervisor, an answer out of Triton, and an end with exit code 0."""
    with engine.network() as network:
        names = (f"--network={network}", "--network-alias=triton", "--network-alias=supervisor")
        with serve(repository, *names) as served:
            options = (
                *options_of_gateway(secrets),
                f"--volume={served.gateway}:/gateway",
                f"--network={network}",
            )
            with engine.container(gateway_image, options=options) as gateway:
                gateway.await_healthy()
                key = served.cesta("keys", "add", "shop", "--folder=/gateway").split()[0]
                try:
                    answer = ask(gateway.address(8080), key, {"basket": ["1029743"], "k": 3})
                except urllib.error.HTTPError as error:
                    pytest.fail(f"{error.read().decode()}\n{gateway.logs()[-3000:]}")
                assert answer["release"] == 1
                assert len(answer["items"]) == 3
                assert gateway.stop() == 0


def ask(address: str, key: str, question: dict[str, object]) -> dict[str, list[object]]:
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=anyone)
    )
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    sent = urllib.request.Request(f"https://{address}/v1/recommend", json.dumps(question).encode(), headers)
    with opener.open(sent, timeout=10) as received:
        return dict(json.loads(received.read()))
