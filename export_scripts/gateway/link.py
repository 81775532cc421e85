"""What the supervisor does for the gateway: counts its requests, follows the canary release with its split.

Both sides meet in the gateway's folder, which containers share.
"""

import secrets
import threading
from pathlib import Path
from typing import Final, Self

import structlog
from prometheus_client import CollectorRegistry

from export_scripts.atomic import write_file
from export_scripts.errors import CestaError
from export_scripts.gateway.nginx import GatewaySettings, reload
from export_scripts.gateway.request_metrics import RequestMetrics
from export_scripts.gateway.state import write_split, write_state
from export_scripts.releases.configs import canary_on_disk
from export_scripts.releases.store import Repository

TOKEN: Final = "admin_token"
INTERVAL_S: Final = 1.0  # how long a canary release may wait for its requests
ELSEWHERE_S: Final = 15.0  # the same where each look is a request to a store

log = structlog.get_logger()


class GatewayLink:
    """Of one gateway's folder and one repository, from `with` to the end of it."""

    def __init__(self, folder: Path, repository: Repository, registry: CollectorRegistry) -> None:
        self.settings = GatewaySettings(folder)
        self._repository, self._registry = repository, registry
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="gateway split", daemon=True)
        self._percent: float | None = None

    def __enter__(self) -> Self:
        self.settings.run.mkdir(parents=True, exist_ok=True)
        admin_token(self.settings.folder)
        write_state(self.settings.folder)
        self._requests = RequestMetrics(self.settings.log_socket, self._registry)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        self._requests.close()

    def follow(self) -> None:
        """Write the split if the canary's share is another than it was, and have nginx read it."""
        canary = canary_on_disk(self._repository)
        percent = canary.percent if canary else 0.0
        if percent != self._percent:
            write_split(self.settings.folder, percent)
            reload(self.settings)  # one in a container sees by itself that the file is new
            log.info("split", percent=percent, release=canary.release if canary else None)
            self._percent = percent

    def _follow(self) -> None:
        while True:
            try:
                self.follow()
            except (CestaError, OSError) as error:
                log.warning("split not followed", reason=str(error))
            if self._ending.wait(INTERVAL_S if isinstance(self._repository, Path) else ELSEWHERE_S):
                return


def admin_token(folder: Path) -> str:
    """What the gateway shows the supervisor when it asks for an admin; made where there is none, 0600."""
    path, included = folder / TOKEN, folder / f"{TOKEN}.conf"
    token = path.read_text().strip() if path.exists() else secrets.token_urlsafe(32)
    if not (path.exists() and included.exists()):  # a start may have been killed between the two
        write_file(included, f"proxy_set_header X-Cesta-Admin {token};\n".encode(), mode=0o600)
        write_file(path, token.encode(), mode=0o600)
    return token
