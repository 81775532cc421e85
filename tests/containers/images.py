"""The images of deploy/images, built as their Dockerfiles say, and compose's restrictions for them."""

from __future__ import annotations

import re
from typing import Any

import yaml

from tests import ROOT
from tests.containers.bases import base
from tests.containers.engine import Engine

IMAGES = ROOT / "deploy" / "images"
COMPOSE = ROOT / "docker-compose.yml"
BASE = re.compile(r"^ARG (\w+_IMAGE)=(\S+)$", re.MULTILINE)
DEFAULT = re.compile(r"\$\{[A-Z_]+:?-([^}]*)\}")


def build_image(engine: Engine, name: str, volumes: tuple[str, ...] = (), **arguments: str) -> str:
    """Build deploy/images/NAME as "cesta-NAME:test". Only the origin of its base may differ."""
    dockerfile = IMAGES / name / "Dockerfile"
    bases = {argument: base(engine, image) for argument, image in BASE.findall(dockerfile.read_text())}
    return engine.build(dockerfile, f"cesta-{name}:test", arguments=bases | arguments, volumes=volumes)


def base_of(engine: Engine, name: str) -> str:
    """Return the base from which `build_image` builds."""
    ((_, image),) = BASE.findall((IMAGES / name / "Dockerfile").read_text())
    return base(engine, image)


def compose_options(image: str) -> tuple[str, ...]:
    """Return the restrictions of the service that runs this image, as options of `run`."""
    service = _service(image)
    assert service["read_only"] is True
    limits = {name: _default(value) for name, value in service["deploy"]["resources"]["limits"].items()}
    return (
        "--read-only",
        f"--user={service['user']}",
        *(f"--cap-drop={capability}" for capability in service["cap_drop"]),
        *(f"--security-opt={option.removesuffix(':true')}" for option in service["security_opt"]),
        *(f"--tmpfs={_default(mount)}" for mount in service["tmpfs"]),
        *([f"--shm-size={service['shm_size']}"] if "shm_size" in service else []),
        f"--stop-timeout={service.get('stop_grace_period', '10s').removesuffix('s')}",
        f"--memory={limits['memory']}",
        f"--pids-limit={limits['pids']}",  # no --cpus: this machine may have fewer
    )


def service_variables(image: str) -> dict[str, str]:
    """Return the environment of the service that runs this image, with compose's defaults."""
    return {name: _default(value) for name, value in _service(image)["environment"].items()}


def _service(image: str) -> dict[str, Any]:
    services: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return next(service for service in services.values() if service["image"] == image)


def _default(value: object) -> str:
    return DEFAULT.sub(lambda match: match[1], str(value))
