"""docker-compose.yml, images and mounts, checked without a Docker engine: schemas, linters, nginx."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from operations.gateway.control import announce
from operations.gateway.nginx import GatewaySettings, find_nginx, read_resolver, render, variables
from tests import ROOT
from tests.running import needs
from tests.running.door import free_ports

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
IMAGES = sorted((ROOT / "deploy" / "images").glob("*/Dockerfile"))
TRITONS = ("triton", "triton-gpu", "triton-slim")
SERVING_IMAGES = [path for path in IMAGES if path.parent.name != "train"]
VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_]+)(?::?-([^}]*))?\}")


def tool(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A program that is installed beside this Python."""
    command = [str(Path(sys.executable).with_name(name)), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_compose_reads_its_file() -> None:
    done = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.parent.name)
def test_an_image_has_no_lint(image: Path) -> None:
    done = tool("hadolint", image)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.parent.name)
def test_what_an_image_copies_is_there(image: Path) -> None:
    """The checkout holds it, unless another stage makes it, and no ignore file excludes it."""
    own = image.with_name("Dockerfile.dockerignore")
    ignored = (own if own.exists() else ROOT / ".dockerignore").read_text()
    allowed = {line[1:] for line in ignored.splitlines() if line.startswith("!")}
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", image.read_text(), re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists(), name
            assert name.split("/")[0] in allowed, name


@pytest.mark.parametrize("image", SERVING_IMAGES, ids=lambda path: path.parent.name)
def test_a_serving_image_holds_nothing_of_the_offline_floors(image: Path) -> None:
    """It makes no releases and tests no load, so it needs neither the code nor the extra "train"."""
    copied = " ".join(re.findall(r"^COPY (?!--from)(.+) \S+$", image.read_text(), re.MULTILINE)).split()
    assert not {"export_scripts", "loadtests", "."} & {name.split("/")[0] for name in copied}
    if image.parent.name == "gateway":
        assert copied == ["deploy/gateway"]
        return
    assert {"operations", "ensemble", "client"} <= {*copied}
    assert re.findall(r"'\.\[(.+)\]'", image.read_text()) == ["stores,redis"]


def test_no_serving_image_can_copy_the_offline_floors() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert not {"export_scripts", "loadtests"} & allowed


def test_every_setting_is_explained() -> None:
    """.env.example has all variables of the compose file with their defaults, and Compose's own variables."""
    used = dict(VARIABLE.findall((ROOT / "docker-compose.yml").read_text()))
    lines = (ROOT / ".env.example").read_text().splitlines()
    explained = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert explained == used | {"COMPOSE_PROFILES": "cpu"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_do_no_more_than_it_must(name: str) -> None:
    """No root, no capabilities, no new privileges, a read-only file system, limits, a health check."""
    service = SERVICES[name]
    assert service["user"].partition(":")[0] not in ("", "0", "root")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"cpus", "memory", "pids"} <= service["deploy"]["resources"]["limits"].keys()
    dockerfile = service.get("build", {}).get("dockerfile")
    assert "healthcheck" in service or "HEALTHCHECK" in (ROOT / dockerfile).read_text()


def networks(name: str) -> set[str]:
    return {*SERVICES[name]["networks"]}


def test_only_the_gateway_faces_a_network() -> None:
    """Grafana listens on this machine only. Services without a reason to reach outside cannot."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published.keys() == {"gateway", "grafana"}
    assert all(port.startswith("127.0.0.1:") for port in published["grafana"])
    open_networks = {name for name, network in COMPOSE["networks"].items() if not network.get("internal")}
    assert {name for name in SERVICES if networks(name) & open_networks} == {
        *("gateway", "grafana", "alertmanager")
    }


def test_nobody_but_gateway_and_prometheus_shares_the_network_in_which_triton_listens() -> None:
    """Triton listens at a name that exists in this network only; it meets store and Redis in others."""
    assert {name for name in SERVICES if "serving" in networks(name)} == {*TRITONS, "gateway", "prometheus"}
    for name in TRITONS:
        command, own = SERVICES[name]["command"], SERVICES[name]["networks"]
        host = command[command.index("--host") + 1]
        assert [network for network in own if host in (own[network] or {}).get("aliases", ())] == ["serving"]
        assert host not in SERVICES, "compose gives a service its own name in all of its networks"
        assert f"http://{host}:8003/readyz" in SERVICES[name]["healthcheck"]["test"][-1]
        assert SERVICES[name]["environment"]["CESTA_ADDRESS"] == f"{host}:8001"


def test_no_two_services_share_a_network_without_a_reason() -> None:
    """The gateway alone faces shops; who writes to a chat does not meet it."""
    members = {each: {name for name in SERVICES if each in networks(name)} for each in COMPOSE["networks"]}
    assert members["monitoring"] == {"prometheus", "alertmanager", "grafana"}
    assert members["store"] == {*TRITONS, "registry"}
    assert members["cache"] == {*TRITONS, "redis"}
    assert members["front"] == {"gateway"}
    assert members["outside"] == {"alertmanager", "grafana"}


def test_a_profile_is_the_whole_stack_with_one_triton() -> None:
    """Object store and Redis are optional. Either Triton has the names under which the gateway reaches it."""
    profiles = {name: service.get("profiles") for name, service in SERVICES.items()}
    assert {name for name, which in profiles.items() if not which} == {
        *("gateway", "prometheus", "alertmanager", "grafana")
    }
    chosen = {p: [n for n in profiles if profiles[n] == [p]] for p in ("cpu", "gpu", "slim")}
    assert chosen == {"cpu": ["triton"], "gpu": ["triton-gpu"], "slim": ["triton-slim"]}
    for name in TRITONS:
        assert {"triton", "supervisor"} <= set(SERVICES[name]["networks"]["serving"]["aliases"])
        assert SERVICES["gateway"]["depends_on"][name] == {
            "condition": "service_healthy",
            "required": False,
        }


@pytest.mark.parametrize("name", TRITONS)
def test_a_triton_may_execute_what_it_starts_from(name: str) -> None:
    """Docker mounts a tmpfs with noexec. Triton's Python models need shared memory."""
    (temporary,) = SERVICES[name]["tmpfs"]
    assert temporary.startswith("/tmp:")
    assert "exec" in temporary.rpartition(":")[2].split(",")
    assert SERVICES[name]["shm_size"] == "1g"


def test_the_gpu_s_triton_gets_a_gpu_and_a_config_for_it() -> None:
    """The image runs NVIDIA's tritonserver with the scorer's config of that name, and keeps its timings."""
    service, image = SERVICES["triton-gpu"], (ROOT / "deploy" / "images" / "gpu" / "Dockerfile").read_text()
    reserved = service["deploy"]["resources"]["reservations"]["devices"]
    assert reserved == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
    assert re.search(r"^ARG TRITON_IMAGE=nvcr\.io/nvidia/tritonserver:\d\d\.\d\d-py3$", image, re.MULTILINE)
    assert "CESTA_TRITON=/opt/tritonserver" in image
    config = VARIABLE.fullmatch(service["environment"]["CESTA_CONFIG"])[2]
    assert f"CESTA_CONFIG={config}" in image
    text = (ROOT / "model_repository" / "ncf_scorer" / "configs" / f"{config}.pbtxt").read_text()
    timings = re.search(r'"trt_timing_cache_path"\s+value: "(/var/cache/\S+)"', text)[1]
    assert f"install --directory --owner cesta /repository /gateway /var/cache/cesta {timings}" in image
    assert "gpu-caches:/var/cache" in service["volumes"]


def test_containers_run_a_current_server_unless_told_otherwise() -> None:
    """NVIDIA's, with and without a GPU. The wheel's old server is for trying cesta, and has to be told so."""
    current, on_a_gpu, slim = (SERVICES[name] for name in TRITONS)
    assert current["build"] == on_a_gpu["build"]
    assert current["image"] == on_a_gpu["image"] == "cesta-gpu"
    assert current["environment"]["CESTA_CONFIG"] == ""
    assert "devices" not in str(current["deploy"])
    assert slim["image"] == "cesta-cpu"
    told = [name for name in TRITONS if "CESTA_OLD_TRITON" in SERVICES[name]["environment"]]
    assert (told, slim["environment"]["CESTA_OLD_TRITON"]) == (["triton-slim"], "expose")


def test_the_object_store_shows_its_network_nothing_but_s3() -> None:
    """The other servers ask for no key, so they listen on loopback. Nothing is reported to the makers."""
    registry = SERVICES["registry"]
    assert {"-ip=127.0.0.1", "-s3.ip.bind=0.0.0.0", "-master.telemetry=false"} <= {*registry["command"]}
    assert {"-s3.port.iceberg=0", "-s3.port.lance=0"} <= {*registry["command"]}
    (keys,) = registry["secrets"]
    assert f"-s3.config=/run/secrets/{keys}" in registry["command"]
    (volume,) = registry["volumes"]
    assert VARIABLE.match(volume)[2].startswith("./")
    assert "chown 10001 artifacts/registry" in (ROOT / "docs" / "operations.md").read_text()
    assert registry["user"].startswith("10001:")
    assert registry["tmpfs"][0].startswith("/tmp:")


def test_both_images_give_the_sampler_the_same_packages() -> None:
    """One file pins them; only the CPU image has the server from the wheel."""
    assert "--requirement sampler-requirements.txt" in (ROOT / "ensemble" / "requirements.txt").read_text()
    pins = re.findall(r"^(\S+)==", (ROOT / "ensemble" / "sampler-requirements.txt").read_text(), re.MULTILINE)
    assert pins == ["numpy", "faiss-cpu", "numba", "onnxruntime"]


def test_redis_starts_with_a_password_that_no_command_line_shows(tmp_path: Path) -> None:
    """The service's own script, on a real redis-server: Redis requires the password, and the limits hold."""
    if not (program := shutil.which("redis-server")):
        pytest.skip("no redis-server; apt-get install redis-server")
    script = SERVICES["redis"]["entrypoint"][2].replace("$$", "$")
    script = script.replace("/run/secrets", str(tmp_path)).replace("/run/redis", str(tmp_path))
    (tmp_path / "redis_password").write_text("s3cret\n")
    host, _, port = free_address().partition(":")
    command = ["sh", "-c", script, "redis", *SERVICES["redis"]["command"], "--port", port, "--bind", host]
    redis = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: "NOAUTH" in ask_redis(host, port, "PING"))
        assert "PONG" in ask_redis(host, port, "AUTH s3cret", "PING")
        assert "allkeys-lru" in ask_redis(host, port, "AUTH s3cret", "CONFIG GET maxmemory-policy")
        running = Path(f"/proc/{redis.pid}/cmdline").read_text()
        assert running.startswith(Path(program).name)
        assert "s3cret" not in running
    finally:
        redis.terminate()
        assert redis.wait(10) == 0
    assert (tmp_path / "redis.conf").stat().st_mode & 0o777 == 0o600


def ask_redis(host: str, port: str, *commands: str) -> str:
    """The answer to all commands; "" while nobody listens."""
    with contextlib.suppress(ConnectionError), socket.create_connection((host, int(port)), 5) as connection:
        connection.sendall("".join(f"{command}\r\n" for command in (*commands, "QUIT")).encode())
        return b"".join(iter(lambda: connection.recv(4096), b"")).decode()
    return ""


def test_what_is_mounted_is_there() -> None:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists(), (name, source)


def test_the_gateway_s_variables_are_those_of_its_templates() -> None:
    """The image's script makes two of them from others."""
    templates = (ROOT / "deploy" / "gateway").glob("*.template")
    wanted = {name for path in templates for name in re.findall(r"\$\{([A-Z_]+)\}", path.read_text())}
    given = SERVICES["gateway"]["environment"].keys()
    assert wanted - {"GATEWAY_RESOLVER", "GATEWAY_REAL_IP"} == given - {"GATEWAY_TRUSTED_PROXIES"}


@pytest.mark.parametrize(("ssl", "scheme"), [("ssl", "https"), ("", "http")])
def test_the_gateway_s_health_is_asked_as_it_listens(tmp_path: Path, ssl: str, scheme: str) -> None:
    """The check's own line runs with a curl that prints its arguments."""
    (tmp_path / "curl").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "curl").chmod(0o755)
    image = (ROOT / "deploy" / "images" / "gateway" / "Dockerfile").read_text()
    (check,) = re.findall(r"^HEALTHCHECK .*\\\n +CMD (.+)$", image, re.MULTILINE)
    shell, option, line = json.loads(check)
    done = subprocess.run(
        [f"/bin/{shell}", option, line],
        env={"PATH": str(tmp_path), "GATEWAY_SSL": ssl},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == f"{scheme}://127.0.0.1:8080/healthz"


def test_prometheus_is_told_the_services_names() -> None:
    """The names stand in the files that compose mounts."""
    names = set()
    for path in (ROOT / "deploy" / "prometheus").glob("*s/*.yml"):
        names |= set(re.findall(r'"([a-z]+):\d+"', path.read_text()))
    aliases = {"triton", "supervisor", "alertmanager"}
    assert aliases <= names <= aliases | SERVICES.keys()


START = ROOT / "deploy" / "gateway" / "start.sh"


def container_environment(settings: GatewaySettings, **more: str) -> dict[str, str]:
    """The environment of the gateway's container, for these settings on this machine."""
    made = ("GATEWAY_RESOLVER", "GATEWAY_REAL_IP")
    given = {name: value for name, value in variables(settings).items() if name not in made}
    settings.run.mkdir(parents=True, exist_ok=True)  # as the tmpfs is
    return {**given, "PATH": "/usr/sbin:/usr/bin:/bin", **more}


@pytest.mark.skipif(not shutil.which("envsubst"), reason="apt-get install gettext-base")
@pytest.mark.parametrize("proxies", [(), ("10.0.0.0/8", "fd00::1")])
def test_the_image_s_script_writes_what_nginx_reads_elsewhere(
    tmp_path: Path, proxies: tuple[str, ...]
) -> None:
    """The script runs with an nginx that prints its arguments."""
    settings = GatewaySettings(tmp_path / "state", trusted_proxies=proxies)
    environment = container_environment(settings, GATEWAY_TRUSTED_PROXIES=", ".join(proxies))
    (tmp_path / "nginx").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "nginx").chmod(0o755)
    environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
    done = subprocess.run(["sh", START], env=environment, capture_output=True, text=True, check=True)
    assert f"-c {settings.run}/nginx.conf -g daemon off;" in done.stdout
    written = (settings.run / "nginx.conf").read_text()
    assert written.replace("; \n", ";\n") == render(settings).read_text()


@pytest.mark.parametrize("proxies", ["proxy.example", "10.0.0.1;", "*"])
def test_the_image_s_script_refuses_what_is_no_proxy(tmp_path: Path, proxies: str) -> None:
    environment = container_environment(GatewaySettings(tmp_path), GATEWAY_TRUSTED_PROXIES=proxies)
    done = subprocess.run(["sh", START], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f'GATEWAY_TRUSTED_PROXIES: "{proxies}" is not an address or a network' in done.stderr


@pytest.mark.parametrize(
    ("resolv_conf", "resolver"),
    [
        ("", "127.0.0.1"),
        ("# x\nnameserver 10.0.0.2\nnameserver\tfd00::2\n", "10.0.0.2"),
        ("nameserver\tfd00::2\n", "[fd00::2]"),
        ("nameserver fe80::1%eth0\n", "127.0.0.1"),
    ],
)
def test_the_image_s_script_and_python_agree_on_the_name_server(
    tmp_path: Path, resolv_conf: str, resolver: str
) -> None:
    (tmp_path / "resolv.conf").write_text(resolv_conf)
    assert read_resolver(tmp_path / "resolv.conf") == resolver
    function = START.read_text().split("set -euf\n")[1].split("# Prints a directive")[0]
    done = subprocess.run(
        ["sh", "-euf", "-c", function + "resolver"],
        env={"PATH": "/usr/bin:/bin", "RESOLV_CONF": str(tmp_path / "resolv.conf")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{resolver}\n"


@pytest.mark.skipif(not shutil.which("envsubst"), reason="apt-get install gettext-base")
def test_a_container_that_was_killed_starts_again(tmp_path: Path) -> None:
    """The volume keeps its socket. While it runs, a second container on the same volume is refused."""
    with needs.debian_packages():
        find_nginx()

    def start() -> subprocess.Popen[bytes]:
        settings = GatewaySettings(tmp_path, http=free_address(), grpc=free_address(), workers=1)
        environment = container_environment(settings)
        return subprocess.Popen(
            ["sh", str(START)], env=environment, stderr=subprocess.PIPE, start_new_session=True
        )

    first = start()
    try:
        wait_for(lambda: announce(tmp_path))
        second = start()
        _, refusal = second.communicate(timeout=10)
        assert (second.returncode, b"a gateway already runs on" in refusal) == (1, True)
        assert announce(tmp_path)
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate()
    assert not announce(tmp_path)
    third = start()
    try:
        wait_for(lambda: announce(tmp_path))
    finally:
        third.send_signal(signal.SIGQUIT)
        third.communicate(timeout=15)


def free_address() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"


def wait_for(happened: Callable[[], object], timeout_s: float = 60) -> None:
    """Poll, because nginx does not report that it has read its files."""
    until = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.05)
