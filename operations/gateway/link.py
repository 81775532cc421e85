"""The supervisor's work for the gateway: metrics, the canary's share of requests, and categories.

It also probes whether the gateway accepts connections, because a dead gateway counts no failures. Otherwise
both sides meet only in the gateway's folder, which containers share.
"""

import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

import structlog
from prometheus_client import CollectorRegistry, Gauge

from operations.errors import CestaError
from operations.gateway.categories import write_categories
from operations.gateway.control import TOKEN, announce, is_listening, read_metrics
from operations.gateway.nginx import GatewaySettings, accepts
from operations.gateway.request_metrics import RequestMetrics
from operations.gateway.split import write_split
from operations.records.atomic import write_file
from operations.releases.models.configs import canary_on_disk
from operations.releases.stores.store import Repository

FOLDER_INTERVAL_S: Final = 1.0  # how long a canary release may wait for its requests
STORE_INTERVAL_S: Final = 15.0  # the same where each look is a request to an object store
PROBE_S: Final = 5.0  # how often Prometheus asks

log = structlog.get_logger()


class GatewayLink:
    """Links one gateway to one repository inside a `with` block.

    ``answering`` returns the release that answers, or None before the first answer: the categories are those
    of that one. A server that was started with the release `pinned` splits nothing off.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        repository: Repository,
        registry: CollectorRegistry,
        answering: Callable[[], int | None],
        pinned: int | None = None,
    ) -> None:
        self.settings, self._answering, self._pinned = settings, answering, pinned
        self._repository = repository
        registry.register(RequestMetrics(settings.folder))
        self._up = Gauge(
            "cesta_gateway_up", "1 while the gateway accepts connections and answers", registry=registry
        )
        self._ending = threading.Event()
        follow_s = STORE_INTERVAL_S if repository.is_remote else FOLDER_INTERVAL_S
        tasks = (
            (self.follow, follow_s, "split not followed"),
            (self.list_categories, FOLDER_INTERVAL_S, "categories not listed"),
            (self.probe, PROBE_S, "not probed"),
        )
        self._threads = [threading.Thread(target=self._repeat, args=task, daemon=True) for task in tasks]
        self._percent: float | None = None
        self._listed: int | None = None  # the release whose categories the gateway has

    def __enter__(self) -> Self:
        admin_token(self.settings.folder)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def follow(self) -> None:
        """Write the split when the canary's share has changed, and have the gateway read it."""
        canary = canary_on_disk(self._repository) if self._pinned is None else None
        percent = canary.percent if canary else 0.0
        if percent != self._percent:
            write_split(self.settings.folder, percent)
            announce(self.settings.folder)
            log.info("split", percent=percent, release=canary.release if canary else None)
            self._percent = percent

    def list_categories(self) -> None:
        """Write the categories of the release that answers when it has changed."""
        release = self._answering()
        if release is not None and release != self._listed:
            if not write_categories(self._repository, release, self.settings.folder):
                log.warning("categories not listed", release=release, reason="its arrays do not tell them")
            self._listed = release

    def probe(self) -> None:
        """Record whether nginx accepts connections, and whether a worker answers on the control socket.

        The kernel accepts for workers that stand still. Neither question is logged by nginx.
        """
        folder = self.settings.folder
        stands_still = is_listening(folder) and read_metrics(folder) is None
        self._up.set(accepts(self.settings.http) and not stands_still)

    def _repeat(self, work: Callable[[], None], every_s: float, failed: str) -> None:
        while True:
            try:
                work()
            except (CestaError, OSError) as error:
                log.warning(failed, reason=str(error))
            except Exception as error:  # the thread must go on: nobody would notice its end
                log.error(failed, exc_info=error)
            if self._ending.wait(every_s):
                return


def admin_token(folder: Path) -> str:
    """Return the token that the gateway sends with admins' requests; make it (mode 0600) if necessary.

    A power failure can leave an empty file. An empty token would let everybody in.
    """
    path = folder / TOKEN
    if not _read_token(path):
        write_file(path, secrets.token_urlsafe(32).encode(), mode=0o600)
    return _read_token(path)


def _read_token(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""
