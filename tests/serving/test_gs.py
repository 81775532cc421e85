"""A server whose repository is a bucket of Google's store, from the first release to a store that is gone."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from operations.releases.canary import start_canary
from operations.releases.models.configs import CANARY
from operations.releases.promote import promote, roll_back
from operations.releases.repository import releases
from operations.releases.retire import retire
from operations.server.process import Server
from tests.running.gcs import Gcs
from tests.running.remote_shop import RemoteShop

pytestmark = [pytest.mark.triton, pytest.mark.timeout(300)]


@pytest.fixture
def shop(
    tmp_path: Path, start_server: Callable[..., Server], gcs: Gcs, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RemoteShop]:
    shop = RemoteShop.at(f"gs://{gcs.bucket()}/shops/one", tmp_path, start_server, monkeypatch)
    yield shop
    shop.close()


def test_the_life_of_releases_at_google(shop: RemoteShop, gcs: Gcs) -> None:
    """A canary, its promotion, a rollback, another promotion, a retirement; then the store is silent: nothing
    is changed, and a start serves the active release of the mirror.
    """
    one = shop.first(1)
    two = shop.add(2)
    start_canary(shop.repository, two, 5, shop.control)
    assert (shop.mistakes(two, CANARY), shop.mistakes(one)) == ([], [])
    assert promote(shop.repository, two, shop.control)["before"] == one
    assert shop.mistakes(two) == []
    assert roll_back(shop.repository, shop.control)["release"] == one
    assert shop.mistakes(one) == []
    three = shop.add(3)
    promote(shop.repository, two, shop.control)
    promote(shop.repository, three, shop.control)
    assert retire(shop.repository, shop.control) == [one]
    assert releases(shop.repository) == [two, three]

    gcs.process.send_signal(signal.SIGSTOP)
    try:
        assert "the store is silent" in shop.refused_promotion(two)
        with capture_logs() as logs:
            shop.restart()
        assert "store not read" in {entry["event"] for entry in logs}
        assert shop.mistakes(three) == []
    finally:
        gcs.process.send_signal(signal.SIGCONT)
    shop.await_others()
