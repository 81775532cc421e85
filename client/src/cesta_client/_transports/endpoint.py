"""The server's address and the options of a connection to it."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext, create_default_context
from typing import Literal
from urllib.parse import urlsplit

from .._errors import InvalidRequest

Protocol = Literal["grpc", "http"]

_HEADER_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_HEADER_VALUE = re.compile(
    r"[\x20-\x7e]*"
)  # what both gRPC and HTTP can carry; a line end would add a header


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A checked address with all options of a connection."""

    address: str
    protocol: Protocol
    headers: dict[str, str] = field(repr=False)  # they may hold a key
    ssl: bool
    root_certificates: Path | None

    @property
    def host(self) -> str:
        return urlsplit(f"//{self.address}").hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(f"//{self.address}").port or 0

    @property
    def host_and_port(self) -> str:
        return urlsplit(f"//{self.address}").netloc

    @property
    def path(self) -> str:
        return urlsplit(f"//{self.address}").path.rstrip("/")

    @property
    def is_near(self) -> bool:
        """The server is this machine, or on a private network: a proxy does not lead there."""
        try:
            return not ipaddress.ip_address(self.host).is_global or _is_own(self.host)
        except ValueError:
            name = self.host.removesuffix(".")
            return "." not in name or name.endswith(".localhost") or name == socket.gethostname().lower()

    def ssl_context(self) -> SSLContext | None:
        return create_default_context(cafile=self.root_certificates) if self.ssl else None


def _is_own(ip: str) -> bool:
    """Tell whether an IP address is this machine's: a socket can have no other."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((ip, 0))
        return True
    return False


def make_endpoint(
    address: str,
    protocol: Protocol,
    *,
    api_key: str | None,
    headers: Mapping[str, str] | None,
    ssl: bool,
    root_certificates: str | os.PathLike[str] | None,
) -> Endpoint:
    """Check the options of a recommender.

    Raises:
        InvalidRequest: an option is not valid; the text names it.
    """
    if protocol not in ("grpc", "http"):
        raise InvalidRequest(f'protocol is "grpc" or "http"; got {protocol!r}')
    if root_certificates is not None and not ssl:
        raise InvalidRequest("root_certificates are given, but ssl is off; add ssl=True")
    if root_certificates is not None and not Path(root_certificates).is_file():
        raise InvalidRequest(f"no file of root certificates at {os.fspath(root_certificates)!r}")
    key = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
    return Endpoint(
        _address(address, protocol),
        protocol,
        _headers({**(headers or {}), **key}),
        ssl,
        Path(root_certificates) if root_certificates is not None else None,
    )


def _address(address: str, protocol: Protocol) -> str:
    example = "localhost:8001" if protocol == "grpc" else "localhost:8000"
    wanted = f'address is "host:port", such as "{example}"; got {address!r}'
    if not isinstance(address, str) or not address.isprintable() or any(mark in address for mark in " @?#"):
        raise InvalidRequest(wanted)
    if "://" in address:
        raise InvalidRequest(f'{wanted}; use protocol="http" and ssl=True instead of a scheme')
    parts = urlsplit(f"//{address}")
    try:
        complete = parts.hostname and parts.port
    except ValueError:  # the port is not a number
        complete = None
    if not complete or (protocol == "grpc" and parts.path):
        raise InvalidRequest(wanted)
    return address


def _headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise InvalidRequest(f"{name!r} is not a header name; letters, digits and -_. are allowed")
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
            # The message does not repeat the value, because it may be a key.
            raise InvalidRequest(f"the value of header {name!r} must be printable ASCII")
    return {name.lower(): value for name, value in headers.items()}  # gRPC accepts only lower case
