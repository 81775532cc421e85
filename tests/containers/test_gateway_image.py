"""The gateway's image in front of the slim one: a shop's question crosses both."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.containers.engine import Engine
from tests.containers.images import compose_options, service_variables
from tests.containers.serving import serving

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


def test_it_refuses_strangers_and_stops_in_order(engine: Engine, gateway_image: str, secrets: Path) -> None:
    """No Triton is needed for that. Nothing but its state is written."""
    nobody = {"TRITON_HTTP": "127.0.0.1:8000", "SUPERVISOR_HTTP": "127.0.0.1:8003"}
    options = (*options_of_gateway(secrets, **nobody), "--read-only=false")
    with engine.container(gateway_image, options=options) as gateway:
        gateway.await_healthy()
        with pytest.raises(urllib.error.HTTPError, match="401"):
            ask(gateway.address(8080), "cesta_stranger", {"basket": ["1"]})
        assert gateway.stop() == 0
        changed = {line.split()[1] for line in gateway.changes()}
        assert changed <= {
            "/gateway",
            "/gateway/run",
            "/run",
            "/run/gateway",
            "/run/secrets",
            "/etc",
            "/etc/mtab",
        }, changed


def test_a_shop_asks_through_the_gateway(
    engine: Engine, cpu_image: str, gateway_image: str, repository: Path, secrets: Path
) -> None:
    """TLS, a key made beside the supervisor, an answer out of Triton, and an end with exit code 0."""
    with engine.network() as network:
        names = (f"--network={network}", "--network-alias=triton", "--network-alias=supervisor")
        with serving(engine, cpu_image, repository, secrets, *names) as served:
            options = (
                *options_of_gateway(secrets),
                f"--volume={served.gateway}:/gateway",
                f"--network={network}",
            )
            with engine.container(gateway_image, options=options) as gateway:
                gateway.await_healthy()
                key = served.cesta("keys", "add", "shop", "--folder=/gateway").split()[0]
                answer = ask(gateway.address(8080), key, {"basket": ["1029743"], "k": 3})
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
