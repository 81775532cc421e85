"""docker-compose.yml, the images and what they mount without a Docker engine: schemas, linters, nginx."""

import contextlib
import http.client
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

from export_scripts.errors import CestaError
from export_scripts.gateway.keys import add_key
from export_scripts.gateway.nginx import Gateway, GatewaySettings
from export_scripts.gateway.state import write_state

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
IMAGES = sorted((ROOT / "deploy" / "images").glob("*/Dockerfile"))
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
    """And not kept out by .dockerignore; from the checkout, not from another stage."""
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", image.read_text(), re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists(), name
            assert name.split("/")[0] in allowed, name


def test_every_setting_is_explained() -> None:
    """.env.example has all variables of the compose file, with their defaults, and no others."""
    used = dict(VARIABLE.findall((ROOT / "docker-compose.yml").read_text()))
    lines = (ROOT / ".env.example").read_text().splitlines()
    explained = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert explained == used


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_do_no_more_than_it_must(name: str) -> None:
    """No root, nothing gained, a read-only file system, limits, a health check."""
    service = SERVICES[name]
    assert service["user"].partition(":")[0] not in ("", "0", "root")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"cpus", "memory", "pids"} <= service["deploy"]["resources"]["limits"].keys()
    dockerfile = service.get("build", {}).get("dockerfile")
    assert "healthcheck" in service or "HEALTHCHECK" in (ROOT / dockerfile).read_text()


def test_only_the_gateway_faces_a_network() -> None:
    """Grafana only this machine; Triton nothing but the network that nobody else is on."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published.keys() == {"gateway", "grafana"}
    assert all(port.startswith("127.0.0.1:") for port in published["grafana"])
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    for name in ("triton", "prometheus", "registry"):
        assert list(SERVICES[name]["networks"]) == ["inside"], name


def test_what_is_started_by_default_is_the_whole_stack() -> None:
    """The object store is a choice; Triton goes by the names that the gateway asks."""
    default = {name for name, service in SERVICES.items() if "profiles" not in service}
    assert default == {"triton", "gateway", "prometheus", "alertmanager", "grafana"}
    assert {"triton", "supervisor"} <= set(SERVICES["triton"]["networks"]["inside"]["aliases"])


def test_what_is_mounted_is_there() -> None:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists(), (name, source)


def test_the_gateway_s_variables_are_those_of_its_templates() -> None:
    templates = (ROOT / "deploy" / "gateway").glob("*.template")
    wanted = {name for path in templates for name in re.findall(r"\$\{([A-Z_]+)\}", path.read_text())}
    given = SERVICES["gateway"]["environment"].keys()
    assert wanted == {name for name in given if not name.startswith("NGINX_ENVSUBST")}


def test_prometheus_is_told_the_services_names() -> None:
    """In the files that compose mounts."""
    names = set()
    for path in (ROOT / "deploy" / "prometheus").glob("*s/*.yml"):
        names |= set(re.findall(r'"([a-z]+):\d+"', path.read_text()))
    aliases = {"triton", "supervisor", "alertmanager"}
    assert aliases <= names <= aliases | SERVICES.keys()


def test_the_secrets_are_files_that_are_made(tmp_path: Path) -> None:
    """Each that compose names; what is there stays, and git does not see them."""
    make = ["sh", str(ROOT / "deploy" / "make_secrets.sh")]
    for _ in range(2):
        subprocess.run(make, cwd=tmp_path, check=True, capture_output=True)
        made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    subprocess.run(make, cwd=tmp_path, check=True, capture_output=True)
    assert made == {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()} == made.keys()
    assert all(made.values())
    assert "/secrets/" in (ROOT / ".gitignore").read_text().split()


def test_a_container_s_nginx_follows_its_state(tmp_path: Path) -> None:
    """The script that the image starts, on a real nginx: a key that is added lets in without being told."""
    settings = GatewaySettings(tmp_path, http=free_address(), grpc=free_address())
    add_key(tmp_path, "first", "shop", 10)
    try:
        gateway = Gateway(settings)
        gateway.start()
    except CestaError as error:
        pytest.skip(str(error))
    environment = {"GATEWAY_STATE": str(tmp_path), "GATEWAY_RUN": str(settings.run / "conf")}
    nginx = Path(shutil.which("nginx", path="/usr/sbin:/usr/bin") or "nginx").parent
    follower = subprocess.Popen(
        ["sh", "-c", f". {ROOT / 'deploy' / 'gateway' / 'follow-state.sh'}; wait"],
        env=environment | {"PATH": f"{nginx}:/usr/bin:/bin"},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        wait_for(lambda: "sleep" in programs(follower.pid))  # it has looked at the state once
        key = add_key(tmp_path, "second", "shop", 10)
        write_state(tmp_path)
        wait_for(lambda: status(settings.http, key) != 401)
        assert status(settings.http, key) == 405  # let in, and told that this path wants a POST
    finally:
        os.killpg(follower.pid, signal.SIGTERM)
        follower.wait()
        gateway.stop()


def programs(group: int) -> set[str]:
    """Names of the processes of a process group."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name, _, rest = (process / "stat").read_text().partition("(")[2].rpartition(")")
            if int(rest.split()[2]) == group:
                found.add(name)
    return found


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return f"127.0.0.1:{found.getsockname()[1]}"


def status(address: str, key: str) -> int:
    """Of a path that asks for a key and then for a POST."""
    connection = http.client.HTTPConnection(address, timeout=5)
    connection.request("GET", "/v1/recommend", headers={"Authorization": f"Bearer {key}"})
    return connection.getresponse().status


def wait_for(happened: Callable[[], object], timeout_s: float = 15) -> None:
    """nginx tells nobody that it has read its files."""
    until = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.05)
