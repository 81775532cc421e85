"""A toy shop whose repository is a bucket, and whose server a supervisor starts on a mirror of it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import pytest

from operations.releases.mirror.local_files import LocalFiles
from operations.releases.model_control import ModelControl
from operations.releases.stores.store import Repository, open_repository
from operations.server.process import Server, ServerSettings
from operations.server.settings import WHOLE_CONFIGS
from operations.supervisor.embedded import EmbeddedServer, open_server
from operations.supervisor.pinned import load_others
from tests.building import TOY_SAMPLER
from tests.running.toy_shop import ToyShop


class RemoteShop(ToyShop):
    """A toy shop whose repository is a bucket, and whose server a supervisor starts."""

    remote: Repository
    loaded: threading.Event  # set when a start has loaded its other releases

    @classmethod
    def at(
        cls, url: str, root: Path, start_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
    ) -> RemoteShop:
        """The shop at ``url``; silence of its store is tolerated for a second."""
        monkeypatch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
        monkeypatch.setenv("CESTA_STORE_TIMEOUT_S", "1")

        def load_and_tell(local: LocalFiles, control: ModelControl) -> None:
            try:
                load_others(local, control)
            finally:
                shop.loaded.set()

        monkeypatch.setattr("operations.supervisor.embedded.load_others", load_and_tell)
        shop = cls(root, start_server)
        shop.loaded = threading.Event()
        shop.remote = open_repository(url)
        return shop

    @property
    def repository(self) -> Repository:
        return self.remote

    @cached_property
    def supervised(self) -> EmbeddedServer:
        settings = ServerSettings(
            repository=str(self.remote),
            http_port=0,
            grpc_port=0,
            metrics_port=0,
            models=(),
            extra_args=WHOLE_CONFIGS,
        )
        return open_server(settings, self.remote, threading.Event(), lambda line: None)

    @property
    def server(self) -> Server:  # type: ignore[override]
        return self.supervised.server

    def first(self, seed: int) -> int:
        """Publish the first release and start the server on it."""
        release = super().first(seed)
        self.await_others()
        return release

    def restart(self) -> None:
        """Start another server, which answers with the active release."""
        self.close()
        del self.supervised, self.control
        self.loaded.clear()
        assert self.server.exit_code is None

    def await_others(self) -> None:
        """Wait until a server that has just started has loaded its other releases: it has the lock."""
        assert self.loaded.wait(60)

    def refused_promotion(self, release: int) -> str:
        """The error of the command in its own process: its request may still reach the store later."""
        where = ["--repository", str(self.repository), "--address", self.server.grpc]
        command = [sys.executable, "-m", "operations.cli", "release", "promote", str(release), *where]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        return done.stderr

    def close(self) -> None:
        self.control.close()
        self.supervised.stop(drain=False)
