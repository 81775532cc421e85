"""How tensors reach a server: the seam where tests put a fake."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[np.object_]]


@dataclass(frozen=True, slots=True)
class Reply:
    """Output tensors by name, (B, K) each, and the version of the model that computed them."""

    tensors: Mapping[str, NDArray[Any]]
    model_version: str


class Transport(Protocol):
    """Carries one request. Called from several threads at once; raises nothing but `CestaError`."""

    def infer(self, tensors: Tensors, *, timeout_s: float, request_id: str) -> Reply:
        """Send input tensors, (B, n) of bytes each; answer or raise within `timeout_s`."""

    def close(self) -> None:
        """Let go of the connections."""


class AsyncTransport(Protocol):
    """`Transport` for asyncio. Cancelling `ainfer` abandons the request."""

    async def ainfer(self, tensors: Tensors, *, timeout_s: float, request_id: str) -> Reply:
        """Send input tensors, (B, n) of bytes each; answer or raise within `timeout_s`."""

    async def aclose(self) -> None:
        """Let go of the connections."""
