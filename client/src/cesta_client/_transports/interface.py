"""The interface that carries tensors to a server. Tests replace it with a fake."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[Any]]
Headers = Mapping[str, str]
JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """The output tensors by name, each (B, K), and the version of the model that computed them."""

    tensors: Mapping[str, NDArray[Any]]
    model_version: str


class Transport(Protocol):
    """Carries one request. Several threads call it at the same time. It raises only `CestaError`."""

    def infer(self, tensors: Tensors, *, timeout_s: float, request_id: str, headers: Headers) -> Reply:
        """Send input tensors, each (B, n) of bytes. Return the answer or raise within `timeout_s`.

        `headers` are sent as HTTP headers or as gRPC metadata; their names are in lower case.
        """

    def close(self) -> None:
        """Close the connections."""


class AsyncTransport(Protocol):
    """`Transport` for asyncio. Cancelling `ainfer` abandons the request."""

    async def ainfer(self, tensors: Tensors, *, timeout_s: float, request_id: str, headers: Headers) -> Reply:
        """Send input tensors, each (B, n) of bytes. Return the answer or raise within `timeout_s`.

        `headers` are sent as HTTP headers or as gRPC metadata; their names are in lower case.
        """

    async def aclose(self) -> None:
        """Close the connections."""


@runtime_checkable
class EventTransport(Protocol):
    """Carries events, for one thread. It raises only `CestaError`."""

    def report(self, body: bytes, *, timeout_s: float) -> bytes:
        """Send JSON with events. Return the JSON of the answer or raise within `timeout_s`."""

    def close(self) -> None:
        """Close the connection."""


@runtime_checkable
class AsyncEventTransport(Protocol):
    """`EventTransport` for asyncio."""

    async def areport(self, body: bytes, *, timeout_s: float) -> bytes:
        """Send JSON with events. Return the JSON of the answer or raise within `timeout_s`."""

    async def aclose(self) -> None:
        """Close the connection."""


@runtime_checkable
class JsonTransport(Protocol):
    """A transport that also reaches the paths of a gateway that take JSON."""

    def ask_json(
        self, path: str, asked: JsonObject, *, timeout_s: float, request_id: str, method: str = "POST"
    ) -> JsonObject:
        """Send an object to a path and return the object that answers it, or raise within `timeout_s`."""


@runtime_checkable
class AsyncJsonTransport(Protocol):
    """`JsonTransport` for asyncio."""

    async def aask_json(
        self, path: str, asked: JsonObject, *, timeout_s: float, request_id: str, method: str = "POST"
    ) -> JsonObject:
        """Send an object to a path and return the object that answers it, or raise within `timeout_s`."""
