"""Drift of what a real server is asked, from the sampler's counters to the gauges."""

from __future__ import annotations

import time

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from operations.drift.features import HOUR
from operations.drift.live import LEAST
from operations.releases.repository import read_release
from operations.releases.stores.store import open_repository
from operations.supervisor.drift import DriftWatch
from tests.running.live import Live
from tests.running.questions import Question, over_grpc

pytestmark = pytest.mark.triton

BATCH = 60


def ask(live: Live, unknown: float) -> int:
    """Ask with real baskets, of whose items so many have an id of another catalog; return how many."""
    shop, rng = live.built.shop, np.random.default_rng(0)
    ids = shop.catalog["item_id"].tolist()
    numbers = rng.integers(shop.n_baskets - 1000, shop.n_baskets, 3 * LEAST // BATCH * BATCH).tolist()
    for start in range(0, len(numbers), BATCH):
        questions = []
        for number in numbers[start : start + BATCH]:
            items = [ids[row] for row in shop.basket(number)]
            basket = tuple(f"x{item}" if rng.random() < unknown else item for item in items)
            questions.append(Question(basket[:200], shop.user_ids[shop.users[number]]))
        over_grpc(live, questions)
    return len(numbers)


def gauges(watch: DriftWatch, live: Live, questions: int) -> dict[tuple[str, str], float]:
    """(gauge, feature) → value in the window of an hour, once so many questions have arrived."""
    registry, deadline = CollectorRegistry(), time.monotonic() + 60
    registry.register(watch)
    while True:
        watch.look(live.release)
        found = {
            (sample.name, sample.labels.get("feature", "")): sample.value
            for metric in registry.collect()
            for sample in metric.samples
            if sample.labels.get("window") == HOUR
        }
        if found.get(("cesta_drift_questions", ""), 0) >= questions:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.1)  # the sampler sends its sums once a second


def test_another_assortment_shows_in_the_gauges(uncached: Live) -> None:
    """Real baskets are no drift. Then half of the ids are of another catalog."""
    repository = open_repository(uncached.built.repository)

    def watch() -> DriftWatch:
        started = DriftWatch(
            uncached.metrics, lambda: uncached.release, lambda n: read_release(repository, n), lambda: 0
        )
        started.look(uncached.release)
        return started

    def drifted(found: dict[tuple[str, str], float]) -> set[str]:
        features = {feature for _, feature in found if feature}
        return {f for f in features if found["cesta_drift_low", f] > found["cesta_drift_threshold", f]}

    time.sleep(3)  # what earlier tests asked is sent at the latest a second after it
    found = gauges(watch(), uncached, ask(uncached, unknown=0.0))
    assert ("cesta_drift", "category") in found
    assert drifted(found) == set()

    found = gauges(watch(), uncached, ask(uncached, unknown=0.5))
    assert "unknown_items" in drifted(found)
