"""Changes of the server, tried again while another one is under way, with an outcome for each failure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from export_scripts.retraining.outcome import Outcome, Stopped
from export_scripts.retraining.server import Server
from export_scripts.retraining.watch import Clock
from operations.errors import BeingChanged, CestaError, NoAnswer
from operations.releases.history import known_active
from operations.releases.stores.store import Repository

BUSY_S: Final = 120.0  # a server that has just started loads its other releases for so long
AGAIN_S: Final = 2.0


@dataclass(frozen=True)
class Changes:
    """Changes one server. ``active`` was the active release when the run began."""

    server: Server
    repository: Repository
    active: int
    clock: Clock

    def start_canary(self, release: int, percent: float) -> None:
        """Have the release answer this share of the requests. Raises Stopped, as all of these do."""
        self._change(
            f"release {release} is not the canary release",
            lambda: self.server.start_canary(release, percent),
        )

    def end_canary(self, release: int) -> None:
        """Have the active release answer all of them again."""
        self._change(
            f"release {release} is still the canary release", lambda: self.server.end_canary(release)
        )

    def promote(self, release: int) -> None:
        """Have the release served in the active one's place."""
        self._change(f"release {release} is not active", lambda: self.server.promote(release, self.active))

    def check_active(self) -> None:
        """Raise Stopped if another release has become the active one."""
        now = known_active(self.repository)
        if now != self.active:
            raise Stopped(
                Outcome.OVERTAKEN,
                f"release {now} became the active one during this run; release {self.active} was before. "
                "Run it again if you still want a new one",
            )

    def _change(self, failed: str, change: Callable[[], None]) -> None:
        until_s = self.clock.now() + BUSY_S
        while True:
            try:
                return change()
            except BeingChanged as error:
                if self.clock.now() > until_s:
                    raise Stopped(Outcome.OVERTAKEN, f"{failed}: {error}") from None
                self.clock.pause(AGAIN_S)
            except NoAnswer as error:
                raise Stopped(self.server.gone, f"{failed}: {error}") from None
            except CestaError as error:
                self.check_active()
                raise Stopped(Outcome.NOT_LOADED, f"{failed}: {error}") from error
