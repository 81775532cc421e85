"""The settings of a server, from code or a command line, and the checks before it starts."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from operations.errors import ServerError
from operations.processes.free_ports import bind_free_port
from operations.processes.listeners import way_out
from operations.server.response_cache import parse_cache
from operations.shipped import command

# For servers that load whole configs only: else Triton starts each sampler twice, once to ask it for its own.
WHOLE_CONFIGS = ("--disable-auto-complete-config",)

_PORTS = ("http_port", "grpc_port", "metrics_port")
_HOSTS = "use 127.0.0.1, ::1, 0.0.0.0 or ::, or an address of this machine's private network"


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """The settings of one server. A port of 0 takes any free port."""

    repository: Path | str  # published: a folder, or a URL that Triton reads itself (s3://, gs://)
    host: str = "127.0.0.1"  # Triton must face only a private network: see docs/operations.md
    http_port: int = 8000
    grpc_port: int = 8001
    metrics_port: int = 8002
    models: tuple[str, ...] = ("recommender",)  # an ensemble loads its steps, too; ("*",) loads every model
    config: str = ""  # configs/<config>.pbtxt replaces config.pbtxt where a model has it
    strict: bool = True  # a model that fails to load ends the server
    onnx_backend: str = "compiled"  # if it was compiled, else "python"; an installation has its own
    response_cache: int | str = 64 * 2**20  # bytes of its memory, 0 for none, or redis://[user@]host[:port]
    threads: int = 1  # of BLAS and OpenMP in every stub process
    drain_s: int = 10  # for requests in flight at the end; an idle keep-alive HTTP connection takes all of it
    log_verbose: int = 0
    old_triton: str = "refuse"  # or "expose": a tritonserver older than the minimum may leave loopback
    control_secret: str = field(default="", repr=False)  # required for model control; "": not required
    live: Path | None = None  # the folder of the live tables that the samplers follow
    extra_args: tuple[str, ...] = ()  # passed to tritonserver as they are


def check_repository(settings: ServerSettings) -> None:
    """Raise `ServerError` if a local repository lacks the models or the config. Triton checks a URL."""
    if "://" in str(settings.repository):
        return
    repository = Path(settings.repository)
    for model in settings.models:
        if not any(version.name.isdecimal() for version in repository.glob(f"{model}/*/")):
            missing = "" if model == "*" else f" of {model}"
            raise ServerError(
                f'no release{missing} in {repository}; run "{command("demo")}" first, or publish one'
            )
        if model != "*" and not (repository / model / "config.pbtxt").is_file():
            raise ServerError(
                f"no release of {model} in {repository} was promoted; "
                'run "cesta release list", then "cesta release promote"'
            )
    if settings.config and not any(repository.glob(f"*/configs/{settings.config}.pbtxt")):
        raise ServerError(
            f"no model in {repository} has a configs/{settings.config}.pbtxt, so Triton would use "
            'config.pbtxt; "cesta release promote" adds the configs of model_repository/'
        )


def claim_ports(settings: ServerSettings) -> ServerSettings:
    """Return `settings` with the host's IP address, and with free ports in place of 0.

    Raises `ServerError` for a port in use, and for a host that is not this machine.
    """
    settings = replace(settings, host=find_own_ip(settings.host))
    with contextlib.ExitStack() as listeners:  # all at the same time, so that they differ
        http_port, grpc_port, metrics_port = (
            _claim_port(settings.host, name, getattr(settings, name), listeners) for name in _PORTS
        )
    return replace(settings, http_port=http_port, grpc_port=grpc_port, metrics_port=metrics_port)


def find_own_ip(host: str) -> str:
    """Return the IP address of `--host`, which tritonserver needs: it resolves no names.

    Raises `ServerError` if no such name is known, or if the address is not this machine's.
    """
    name = host.removeprefix("[").removesuffix("]") if ":" in host else host
    try:
        found = socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE) if name else []
    except (OSError, UnicodeError):
        found = []
    if not found:
        raise ServerError(f'--host "{host}" is neither an IP address nor a known name; {_HOSTS}')
    ip = str(min(found, key=lambda entry: entry[0] != socket.AF_INET)[4][0])  # 127.0.0.1 for localhost
    if "%" in ip:
        raise ServerError(f'--host "{host}" has a zone, which tritonserver does not read; {_HOSTS}')
    with socket.socket(family_of(ip), socket.SOCK_STREAM) as probe:
        try:
            probe.bind((ip, 0))
        except OSError as error:
            raise ServerError(
                f'--host "{host}" is no address of this machine ({error.strerror}); {_HOSTS}'
            ) from None
    return ip


def family_of(ip: str) -> socket.AddressFamily:
    """Return the kind of sockets for an IP address."""
    return socket.AF_INET6 if ipaddress.ip_address(ip).version == 6 else socket.AF_INET


def _claim_port(host: str, name: str, port: int, listeners: contextlib.ExitStack) -> int:
    check_port(name, port)
    listener = listeners.enter_context(socket.socket(family_of(host), socket.SOCK_STREAM))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections in TIME_WAIT do not matter
    if not port:
        return bind_free_port(listener, host)
    try:
        listener.bind((host, port))
    except OSError as error:
        raise ServerError(
            f"{name} {port} on {host} cannot be used ({error.strerror}); {way_out(host, port)}, "
            f"or choose another with --{name.replace('_', '-')} (0: any free one)"
        ) from None
    return port


def check_port(name: str, port: int) -> None:
    """Raise `ServerError` if there is no such port."""
    if not 0 <= port <= 65535:
        raise ServerError(f"--{name.replace('_', '-')} {port} is not a port; choose 1 to 65535, or 0 for any")


def parse_settings(description: str | None, arguments: Sequence[str] | None) -> ServerSettings:
    """Read the settings from a command line; `None` means the process's own."""
    parser = argparse.ArgumentParser(
        prog="python -m operations.server",
        description=description,
        argument_default=argparse.SUPPRESS,  # ServerSettings holds the defaults
    )
    add = parser.add_argument
    add("--repository", default="artifacts/repository", help="published: a folder, s3://… or gs://…")
    add("--host", help="address to listen on; never one that faces the internet (127.0.0.1)")
    add("--http-port", type=int, help="0: any free port (8000)")
    add("--grpc-port", type=int, help="0: any free port (8001)")
    add("--metrics-port", type=int, help="0: any free port (8002)")
    add(
        "--model", action="append", dest="models", help="model to load at the start; repeatable (recommender)"
    )
    add("--config", help="use configs/CONFIG.pbtxt of each model that has it, e.g. tensorrt")
    add(
        "--response-cache", type=parse_cache, help="bytes, 0 for none, or redis://[user@]host[:port] (64 MiB)"
    )
    add("--onnx-backend", choices=("compiled", "python"), help="python: even if the other is compiled")
    add("--threads", type=int, help="threads of BLAS and OpenMP in every model process (1)")
    add("--drain-s", type=int, help="seconds for requests in flight at the end (10)")
    add("--log-verbose", type=int)
    add("--old-triton", choices=("refuse", "expose"), help="expose: an old tritonserver may leave loopback")
    add("extra_args", nargs="*", default=(), metavar="-- ARGUMENT", help="passed to tritonserver as they are")
    options: dict[str, Any] = vars(parser.parse_args(arguments))  # of the types that `add` names
    for name in ("models", "extra_args"):
        if name in options:
            options[name] = tuple(options[name])
    return ServerSettings(**options)
