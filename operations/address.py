"""Addresses of servers, written as `host:port`; the host of an IPv6 address stands in brackets."""

import ipaddress
import socket
from urllib.parse import urlsplit
from urllib.request import getproxies

from operations.errors import CestaError


def join_address(host: str, port: int) -> str:
    """Return `host:port`, or `[host]:port` for an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of `host:port` or `[host]:port`. Raises CestaError for another text."""
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:  # the port is not a number, or a bracket is missing
        host = port = None
    if not host or port is None or join_address(host, port) != address.lower():
        raise CestaError(
            f'"{address}" is not an address; write host:port, such as 127.0.0.1:8001 or [::1]:8001'
        )
    return host, port


def is_near(host: str) -> bool:
    """Tell whether the host is this machine or on a private network, without asking a name server.

    A name without a dot is near: compose and Kubernetes give such names to services.
    """
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        name = host.lower().removesuffix(".")
        return "." not in name or name.endswith(".localhost") or name == socket.gethostname().lower()


def proxy_and_exceptions(url: str) -> tuple[str, str] | None:
    """Return the environment's proxy and the hosts that are reached without it, for a URL of a near host.

    None if the URL leads elsewhere, or if there is no proxy: then the environment may decide.
    """
    host, proxies = host_of(url), getproxies()
    proxy = proxies.get(url.partition(":")[0]) or proxies.get("all")
    if not proxy or not host or not is_near(host):
        return None
    return proxy, ",".join(filter(None, [host, proxies.get("no", "")]))


def host_of(url: str) -> str:
    """Return the host in a URL; "" if there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # a bracket is missing
        return ""
