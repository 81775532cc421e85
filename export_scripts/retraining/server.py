"""The server that a retraining changes: here by its own ports, or elsewhere through its gateway."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from typing import Final, Protocol
from urllib.error import HTTPError

from export_scripts.retraining.outcome import Outcome, Stopped
from operations.errors import CestaError, NoAnswer
from operations.gateway.remote import RemoteGateway
from operations.gateway.traffic import Traffic
from operations.records.manifest import ReleaseManifest
from operations.releases.canary import start_canary, stop_canary
from operations.releases.model_control import ModelControl
from operations.releases.promote import promote
from operations.releases.retire import retire
from operations.releases.stores.store import Repository
from operations.releases.switch import served_release
from operations.settings import ReleaseSettings

ASK_S: Final = 5.0


class Server(Protocol):
    """A server on the repository. Its changes raise CestaError, and NoAnswer if it is gone."""

    @property
    def gone(self) -> Outcome:
        """The outcome of a run whose server does not answer."""

    def check(self, release: ReleaseManifest) -> None:
        """Raise Stopped unless the server runs on the repository that holds ``release``."""

    def traffic(self) -> Traffic:
        """What shops were answered so far. Raises NoAnswer."""

    def start_canary(self, release: int, percent: float) -> None:
        """Have the release answer this share of the requests."""

    def end_canary(self, release: int) -> None:
        """Have the active release answer all of them again."""

    def promote(self, release: int, expected: int) -> None:
        """Have the release served in the place of ``expected``."""

    def retire(self, keep: int) -> list[int]:
        """Delete old releases; their numbers."""


class LocalServer:
    """The server at ``address`` (gRPC) with its supervisor at ``supervisor``, both host:port."""

    gone: Final = Outcome.NO_SERVER

    def __init__(self, repository: Repository, address: str, supervisor: str, bars: ReleaseSettings) -> None:
        self._repository, self._address, self._supervisor = repository, address, supervisor
        self._bars = bars

    def check(self, release: ReleaseManifest) -> None:
        """Look whether it listens, and which repository it serves."""
        try:
            with self._control() as control:
                served_release(self._repository, control)
        except CestaError as error:
            raise Stopped(Outcome.NO_SERVER, str(error)) from None

    def traffic(self) -> Traffic:
        """Ask the supervisor."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is near
        url = f"http://{self._supervisor}/traffic"
        try:
            with opener.open(url, timeout=ASK_S) as answer:
                traffic: Traffic = json.load(answer)
                return traffic
        except HTTPError as error:
            why = "it serves no gateway" if error.code == 404 else f"it answers {error.code}"
            raise NoAnswer(f"{url}: {why}; start it with --gateway, or give --supervisor") from None
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise NoAnswer(f"{url}: no answer ({reason}); does a supervisor run there?") from None

    def start_canary(self, release: int, percent: float) -> None:
        """Do the same as ``cesta release canary``."""
        with self._control() as control:
            start_canary(self._repository, release, percent, control, bars=self._bars)

    def end_canary(self, release: int) -> None:
        """Do the same as ``cesta release canary --percent 0``."""
        with self._control() as control:
            stop_canary(self._repository, release, control)

    def promote(self, release: int, expected: int) -> None:
        """Do the same as ``cesta release promote``."""
        with self._control() as control:
            promote(self._repository, release, control, bars=self._bars, expected=expected)

    def retire(self, keep: int) -> list[int]:
        """Do the same as ``cesta release retire``."""
        with self._control() as control:
            return retire(self._repository, control, keep)

    @contextmanager
    def _control(self) -> Iterator[ModelControl]:
        with ModelControl(self._address) as control:
            if not control.is_there():
                raise NoAnswer(f"no server listens at {self._address}; start it, or give --address")
            yield control


class RemoteServer:
    """The server behind a gateway."""

    gone: Final = Outcome.NO_GATEWAY

    def __init__(self, gateway: RemoteGateway) -> None:
        self._gateway = gateway

    def check(self, release: ReleaseManifest) -> None:
        """Look whether it answers this key, and whether it has the release."""
        try:
            rows = self._gateway.releases()["releases"]
        except CestaError as error:
            raise Stopped(Outcome.NO_GATEWAY, str(error)) from None
        made = [row.get("created_at") for row in rows if row["release"] == release.release]
        if made != [release.created_at]:
            raise Stopped(
                Outcome.NO_SERVER,
                f"the server behind the gateway does not have release {release.release} of "
                f"{release.created_at}, so it serves another repository; give --repository of that one",
            )

    def traffic(self) -> Traffic:
        """Ask its supervisor. An error of the gateway, such as 502 while that starts again, is no answer."""
        try:
            return self._gateway.traffic()
        except CestaError as error:
            raise NoAnswer(str(error)) from None

    def start_canary(self, release: int, percent: float) -> None:
        """Do the same as ``cesta release canary --gateway``."""
        self._gateway.canary(release, percent)

    def end_canary(self, release: int) -> None:
        """Do the same as ``cesta release canary --gateway --percent 0``."""
        self._gateway.canary(release, 0)

    def promote(self, release: int, expected: int) -> None:
        """Do the same as ``cesta release promote --gateway``."""
        self._gateway.promote(release, expected=expected)

    def retire(self, keep: int) -> list[int]:
        """Have the server do it: it unloads what is deleted."""
        return self._gateway.retire(keep)
