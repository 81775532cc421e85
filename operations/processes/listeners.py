"""Which process listens on an address of this machine."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterator
from pathlib import Path

from operations.errors import CestaError
from operations.processes.identity import describe

_LISTENS = "0A"  # TCP_LISTEN


def check_free(address: str) -> None:
    """Raise CestaError if ``host:port`` cannot be listened on; the sentence names the process that does."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections in TIME_WAIT do not matter
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            raise CestaError(
                f"{address} cannot be used ({error.strerror}); {way_out(host, int(port))}"
            ) from None


def way_out(host: str, port: int) -> str:
    """Return the advice for a port in use: `stop process 7 (python3 -m http.server), which listens there`."""
    listener = find_listener(host, port)
    return f"stop {describe(listener)}, which listens there" if listener else "stop what listens there"


def find_listener(host: str, port: int) -> int | None:
    """Return the process that listens there; None if there is none, or if it is another user's."""
    sockets = {f"socket:[{inode}]" for inode in _listening(host, port)}
    if not sockets:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(descriptor.readlink()) in sockets:
                        return int(process.name)
    return None


def _listening(host: str, port: int) -> Iterator[str]:
    """Yield the inodes of the sockets that keep others from this address."""
    with contextlib.suppress(OSError, ValueError):
        wanted = ipaddress.ip_address(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0])
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                _, local, _, state, *_, inode = line.split()[:10]
                address, _, number = local.partition(":")
                if state == _LISTENS and int(number, 16) == port:
                    taken = _decode(address)
                    if taken == wanted or taken.is_unspecified or wanted.is_unspecified:
                        yield inode


def _decode(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Decode an address of /proc/net/tcp: words of 32 bits in the machine's byte order."""
    raw = bytes.fromhex(address)
    words = [raw[start : start + 4][::-1] for start in range(0, len(raw), 4)]
    decoded = ipaddress.ip_address(b"".join(words))
    return getattr(decoded, "ipv4_mapped", None) or decoded
