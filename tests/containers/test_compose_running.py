"""docker-compose.yml starts, serves and survives: the slim image, and stand-ins for what cannot be pulled.

All tests share one project, which serves from the bucket of its own object store. They run in order.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest

from operations.releases.signatures.signing_key import signing_key_file
from tests.building.slices import Built
from tests.containers.bases import base
from tests.containers.composed import (
    Composed,
    Front,
    find_compose,
    make_project,
    wait_for,
)
from tests.containers.engine import Engine
from tests.containers.load import Load

pytestmark = [
    pytest.mark.timeout(1800),  # the first test builds the images
    pytest.mark.skipif(os.geteuid() != 0, reason="looks into the containers' networks, which only root can"),
]

TRITON: Final = "triton-slim"
SERVICES: Final = (TRITON, "gateway", "prometheus", "alertmanager", "grafana", "registry", "redis")
PULLED: Final = ("PROMETHEUS_IMAGE", "ALERTMANAGER_IMAGE", "GRAFANA_IMAGE", "REGISTRY_IMAGE", "REDIS_IMAGE")
TRITON_PORTS: Final = (8000, 8001, 8002, 8003)
BUCKET: Final = "s3://cesta/repository"
START_S: Final = 240.0
BACK_S: Final = 90.0  # a server that is started again
# Who each service runs as, and what it writes to besides memory.
WRITES: Final = {
    TRITON: ("10001", ["/gateway", "/var/cache/cesta", "/tmp"]),
    "gateway": ("10001", ["/gateway", "/run/gateway"]),
    "prometheus": ("65534", ["/prometheus"]),
    "alertmanager": ("65534", ["/alertmanager"]),
    "grafana": ("472", ["/var/lib/grafana", "/tmp"]),
    "registry": ("10001", ["/data", "/tmp"]),
    "redis": ("999", ["/run/redis"]),
}


@pytest.fixture(scope="module")
def composed(
    engine: Engine,
    cpu_image: str,
    gateway_image: str,
    built: Built,
    state: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Composed]:
    """The whole project, healthy; release 1 is active, and release 2 is published."""
    if not (command := find_compose(engine)):
        pytest.skip(
            "compose was not tested: no docker compose and no podman-compose; pip install podman-compose"
        )
    project = f"cesta-test-{uuid4().hex[:8]}"
    folder = tmp_path_factory.mktemp("compose") / "cesta"
    made = make_project(engine, command, folder, project, settings(engine), state)
    own = {TRITON: {"image": cpu_image}, "gateway": {"image": gateway_image}}
    (folder / "docker-compose.override.yml").write_text(json.dumps({"services": own}))
    (folder / "artifacts").mkdir()
    for name in ("repository", "registry"):
        (folder / "artifacts" / name).mkdir()
        os.chown(folder / "artifacts" / name, 10001, 10001)
    try:
        with made.health_checks():
            make_bucket(made)
            publish(made, built)
            publish(made, built)
            if not made.waits_for_health:
                made.run("up", "--detach", "--no-build", "--no-deps", "redis", TRITON)
                wait_for(lambda: made.is_healthy(TRITON), START_S)
            made.run("up", "--detach", "--no-build", timeout_s=START_S)
            wait_for(lambda: all(map(made.is_healthy, SERVICES)), START_S)
            yield made
    finally:
        made.remove()


def settings(engine: Engine) -> dict[str, str]:
    """What .env says otherwise than .env.example: the profiles, free ports, and images that are here."""
    example = (Path(__file__).parents[2] / ".env.example").read_text().splitlines()
    names = dict(line.split("=", 1) for line in example if line.partition("=")[0] in PULLED)
    return {
        "COMPOSE_PROFILES": "slim,registry,redis",
        "CESTA_REPOSITORY": BUCKET,
        "AWS_ENDPOINT_URL": "http://registry:8333",
        "TRITON_CPUS": "2",
        "HTTP_PORT": f"127.0.0.1:{free_port()}",
        "GRPC_PORT": f"127.0.0.1:{free_port()}",
        "GRAFANA_PORT": str(free_port()),
        **{name: base(engine, image) for name, image in names.items()},
    }


def make_bucket(composed: Composed) -> None:
    """Make the bucket with the command of docs/operations.md."""
    composed.run("up", "--detach", "--no-build", "registry")
    wait_for(lambda: composed.is_healthy("registry"), 60)
    create = 'echo "s3.bucket.create -name cesta" | weed shell -master=127.0.0.1:9333'
    composed.run("exec", "-T", "registry", "sh", "-c", create)


def publish(composed: Composed, built: Built) -> None:
    """Publish as docs/operations.md does, in a container of Triton's image with the publisher's key."""
    key = composed.folder / "signing-key"
    shutil.copyfile(signing_key_file(), key)
    os.chown(key, 10001, 10001)
    key.chmod(0o400)
    mounts = (f"--volume={built.root}:/artifacts:ro", f"--volume={key}:/run/signing-key:ro")
    words = ("publish", "--out", "/artifacts", "--repository", BUCKET)
    variable = "--env=CESTA_SIGNING_KEY_FILE=/run/signing-key"
    composed.run("run", "--rm", "--no-deps", "-T", *mounts, variable, "--entrypoint=cesta", TRITON, *words)


@pytest.fixture(scope="module")
def front(composed: Composed) -> Front:
    """A shop at the gateway's port, with a key made in the supervisor's container."""
    ports = dict(line.split("=", 1) for line in (composed.folder / ".env").read_text().splitlines())
    certificate = composed.folder / "secrets" / "tls_certificate.pem"
    key = composed.run("exec", "-T", TRITON, "cesta", "keys", "add", "shop", "--folder", "/gateway")
    port = ports["HTTP_PORT"].rpartition(":")[2]
    return Front(f"https://localhost:{port}", certificate, key.split()[-1])


def test_services_start_in_their_order(composed: Composed) -> None:
    """The store before Triton, and the gateway when Triton recommends."""
    if not composed.waits_for_health:
        pytest.skip("this podman is older than 4.6, and podman-compose then starts services without waiting")
    started = {name: parse_time(composed.container(name).state["StartedAt"]) for name in SERVICES}
    assert started["registry"] < started[TRITON] < started["gateway"]


def test_a_shop_is_answered_over_tls(composed: Composed, front: Front) -> None:
    """With the certificate of secrets/; nobody is answered without TLS or without a key."""
    status, answer = front.ask("/v1/recommend", {"basket": ["1029743"], "k": 3})
    assert (status, answer["release"], len(answer["items"])) == (200, 1, 3)
    assert front.ask("/v1/recommend", {"basket": ["1029743"]}, key="nobody")[0] == 401
    assert front.ask("/readyz")[0] == 200
    plain = Front(front.url.replace("https", "http"), front.certificate, front.key)
    assert plain.ask_text("/v1/recommend")[0] == 400


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_can_do_no_more_than_it_must(composed: Composed, service: str) -> None:
    """It is not root, has no capabilities, can gain none, and writes only to its volumes and to memory."""
    user, writes = WRITES[service]
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{composed.pid(service)}/status").read_text().splitlines()
        if ":\t" in line
    )
    assert status["Uid"].split() == [user] * 4
    assert (int(status["CapEff"], 16), int(status["CapBnd"], 16), status["NoNewPrivs"]) == (0, 0, "1")
    container = composed.container(service)
    for folder in writes:
        container.execute("sh", "-c", f"echo x > {folder}/written && rm {folder}/written")
    for folder in ("/", "/etc", "/usr", "/opt", "/var"):
        assert "refused" in container.execute("sh", "-c", f"echo x 2>&1 > {folder}/written || echo refused")
    own = {f"/run/secrets/{name}" for name in secrets_of(composed, service)}
    for secret in own:
        assert container.execute("cat", secret)
    listed = container.execute("sh", "-c", "ls -d /run/secrets/* 2>/dev/null || true").split()
    assert {*listed} == own


def test_only_gateway_and_prometheus_reach_triton(composed: Composed, engine: Engine) -> None:
    """Every other container tries all of Triton's addresses and ports, and so does a container elsewhere."""
    pairs = [f"{address}:{port}" for address in composed.addresses(TRITON).values() for port in TRITON_PORTS]
    serving = {f"{composed.addresses(TRITON)['serving']}:{port}" for port in TRITON_PORTS}
    assert len(pairs) == 3 * len(TRITON_PORTS)
    reached = {name: composed.reached(composed.pid(name), pairs) for name in SERVICES if name != TRITON}
    image = settings(engine)["REDIS_IMAGE"]
    with (
        engine.network() as elsewhere,
        engine.container(image, "sleep", "600", options=(f"--network={elsewhere}",)) as stranger,
    ):
        reached["stranger"] = composed.reached(int(stranger.state["Pid"]), pairs)
    nobody: set[str] = set()
    assert reached == dict.fromkeys(reached, nobody) | {"gateway": serving, "prometheus": serving}


def test_prometheus_sees_every_service_and_the_receiver_of_alerts(composed: Composed) -> None:
    """Every target is up, and alerts go to Alertmanager."""

    def ask(path: str) -> Any:
        url = f"http://127.0.0.1:9090/api/v1/{path}"
        return json.loads(
            composed.container("prometheus").execute("wget", "-Y", "off", "-q", "-O", "-", url)
        )["data"]

    def health() -> dict[str, str]:
        return {each["labels"]["job"]: each["health"] for each in ask("targets")["activeTargets"]}

    jobs = ("triton", "supervisor", "alertmanager", "prometheus")
    wait_for(lambda: health() == dict.fromkeys(jobs, "up"), 60)
    assert [each["url"] for each in ask("alertmanagers")["activeAlertmanagers"]] == [
        "http://alertmanager:9093/api/v2/alerts"
    ]


def test_a_release_of_the_bucket_is_tried_and_promoted(composed: Composed, front: Front) -> None:
    """Beside the running server, in its container, whose /tmp holds what is loaded and what is tried."""
    said = composed.run("exec", "-T", TRITON, "cesta", "release", "promote", "2")
    assert "release 2 is active" in said
    assert "untried" not in said
    wait_for(lambda: front.ask("/v1/recommend", {"basket": ["1029743"]})[1]["release"] == 2, 10)
    said = composed.run("exec", "-T", TRITON, "cesta", "release", "rollback")
    assert "release 1 is active" in said
    wait_for(lambda: front.ask("/v1/recommend", {"basket": ["1029743"]})[1]["release"] == 1, 10)


@pytest.mark.parametrize("service", [TRITON, "gateway", "prometheus", "alertmanager", "redis"])
def test_a_service_that_is_killed_starts_again(composed: Composed, front: Front, service: str) -> None:
    """With signal 9, as the kernel does when memory is short. Then shops are answered, and it is healthy."""
    killed = composed.pid(service)
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: composed.pid(service) not in (0, killed), BACK_S)
    wait_for(lambda: composed.is_healthy(service), BACK_S)
    wait_for(lambda: front.recommends(["1029743"]), BACK_S)
    wait_for(lambda: front.ask("/readyz")[0] == 200, BACK_S)
    assert composed.pid(service) not in (0, killed)


@pytest.mark.parametrize("service", [TRITON, "gateway"])
def test_a_service_is_replaced_under_load(
    composed: Composed, front: Front, service: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Questions fail while the service restarts, as with a new image, and then no more."""
    with Load(front.recommends) as load:
        load.await_answers(40)
        since = time.monotonic()
        composed.run("up", "--detach", "--no-build", "--no-deps", "--force-recreate", service)
        wait_for(lambda: composed.is_healthy(service) and front.recommends(["1029743"]), START_S)
        took_s = time.monotonic() - since
        load.await_answers(40)
    with capsys.disabled():
        print(f"\n{service} replaced in {took_s:.1f} s: {load}")
    assert 0 < load.failed_for_s() < took_s
    assert load.last_failure_s() < since + took_s


def secrets_of(composed: Composed, service: str) -> list[str]:
    import yaml

    services = yaml.safe_load((composed.folder / "docker-compose.yml").read_text())["services"]
    return list(services[service].get("secrets", ()))


def parse_time(text: str) -> datetime:
    """A time as the engine prints it, with nanoseconds."""
    return datetime.fromisoformat(text[:26].rstrip("Z") + "+00:00")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
