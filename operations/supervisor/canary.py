"""The canary over gRPC, as a shop asks, and the counts that tell a busy server from a hung one."""

import uuid
from types import TracebackType
from typing import Self

import cesta_client
from operations.errors import CestaError
from operations.records.contract import SAMPLER, SCORER
from operations.releases.model_control import ModelControl
from operations.supervisor.watchdog import CanaryLate, CanaryMissed

# Two late canaries and their counts, after a pause of a second, fit into 5 s. A canary usually takes some
# milliseconds, also while a release loads.
DEADLINE_S = 1.25
COUNT_DEADLINE_S = 0.3

_BUSY = (cesta_client.TimedOut, cesta_client.Throttled)
_FULL = "maximum queue size"  # Triton's words for a queue that an operator has bounded


class Canary:
    """Questions to one server; close it when the server is gone."""

    def __init__(self, grpc: str) -> None:
        self._shop = cesta_client.Recommender(grpc, timeout_s=DEADLINE_S, retries=0)
        self._control = ModelControl(grpc, "")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._shop.close()
        self._control.close()

    def ask(self, timeout_s: float = DEADLINE_S) -> int:
        """The release that recommended something. Raises CanaryLate or CanaryMissed."""
        try:
            return self._shop.recommend([f"canary-{uuid.uuid4().hex}"], k=1, timeout_s=timeout_s).release
        except cesta_client.CestaError as error:
            busy = isinstance(error, _BUSY) or _FULL in str(error)
            raise (CanaryLate if busy else CanaryMissed)(str(error)) from None

    def answered(self) -> tuple[int, ...] | None:
        """Requests that sampler and scorer have answered, of all versions; None if Triton does not tell."""
        try:
            return tuple(self._control.answered(model, COUNT_DEADLINE_S / 2) for model in (SAMPLER, SCORER))
        except CestaError:
            return None
