"""The canary, a request over gRPC like a shop's, and the counts that tell a busy server from a hung one.

Both give up early. A canary then runs out in the client, because a cancelled inference can end Triton 2.51. A
count may be cancelled: 30,000 cancelled requests for statistics did no harm.
"""

import uuid
from types import TracebackType
from typing import Self

import cesta_client
from operations.errors import CestaError
from operations.records.contract import SAMPLER, SCORER
from operations.releases.model_control import ModelControl
from operations.supervisor.watchdog import CanaryLate, CanaryMissed

# Two late canaries and their counts fit into 5 s, a pause of a second included. A canary usually takes a few
# milliseconds, even while a release loads.
DEADLINE_S = 1.25
COUNT_DEADLINE_S = 0.3

_BUSY = (cesta_client.TimedOut, cesta_client.Throttled)
_FULL = "maximum queue size"  # in Triton's error for a full queue, if an operator has bounded it


class Canary:
    """Sends canaries to one server; close it when the server has ended."""

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
        """Close the connections."""
        self._shop.close()
        self._control.close()

    def ask(self, timeout_s: float = DEADLINE_S) -> int:
        """Send a canary and return the release that answered. Raises CanaryLate or CanaryMissed."""
        try:
            return self._shop.recommend([f"canary-{uuid.uuid4().hex}"], k=1, timeout_s=timeout_s).release
        except cesta_client.CestaError as error:
            busy = isinstance(error, _BUSY) or _FULL in str(error)
            raise (CanaryLate if busy else CanaryMissed)(str(error)) from None

    def count_answers(self) -> tuple[int, ...] | None:
        """Return how many requests samplers and scorers have answered; None if Triton does not say."""
        try:
            return tuple(self._control.answered(kind, COUNT_DEADLINE_S / 2) for kind in (SAMPLER, SCORER))
        except CestaError:
            return None
