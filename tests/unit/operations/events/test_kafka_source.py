"""A Kafka topic as a source, on the mock cluster that librdkafka has for tests: each message counts once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from operations.errors import CestaError
from operations.events.event import read_event
from operations.events.figures import Figures
from operations.events.kafka_source import KafkaSource
from operations.events.log import EventLog
from operations.events.sqlite_store import SqliteStore
from tests import ROOT

kafka = pytest.importorskip("confluent_kafka", reason="no client of Kafka; pip install 'cesta[kafka]'")

WAIT_S = 60
PARTITIONS = 4


class Cluster:
    """The mock cluster lives in its producer."""

    def __init__(self) -> None:
        self._producer = kafka.Producer(
            {"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 0}
        )
        (broker,) = self._producer.list_topics(timeout=WAIT_S).brokers.values()
        self.address = f"kafka://{broker.host}:{broker.port}/sales"

    def send(self, *values: bytes | None) -> None:
        for n, value in enumerate(values):
            self._producer.produce("sales", value, partition=n % PARTITIONS)
            self._producer.poll(0)
        assert self._producer.flush(WAIT_S) == 0


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def event(event_id: str, **about: Any) -> bytes:
    return json.dumps({"event_id": event_id, "basket_id": "b", "item_ids": ["milk"], **about}).encode()


def kept(folder: Path) -> list[str]:
    store = SqliteStore(folder)
    ids = [read_event(logged.content).event_id for logged in store.read(0, 1_000_000)]
    store.close()
    return ids


def await_(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    log = EventLog(lambda: SqliteStore(tmp_path))
    log.start()
    yield log
    log.close()


def source_of(cluster: Cluster, log: EventLog, folder: Path, registry: CollectorRegistry) -> KafkaSource:
    def offsets_of(topic: str) -> dict[int, int]:
        store = SqliteStore(folder)
        found = dict(store.offsets(topic))
        store.close()
        return found

    return KafkaSource(cluster.address, log, Figures(registry), offsets_of)


def test_messages_become_events_and_a_wrong_one_does_not_stop_the_rest(
    cluster: Cluster, log: EventLog, tmp_path: Path
) -> None:
    registry = CollectorRegistry()
    cluster.send(event("e1"), b"{", None, event("e2", at="2100-01-01T00:00:00Z"), event("e3"), event("e1"))
    with source_of(cluster, log, tmp_path, registry) as source:
        await_(lambda: len(kept(tmp_path)) == 2)
        cluster.send(event("e4"))
        await_(lambda: len(kept(tmp_path)) == 3)
        await_(lambda: source.lag == 0)
        assert source.fault is None
    assert sorted(kept(tmp_path)) == ["e1", "e3", "e4"]
    for code in ("not_json", "event_in_future"):
        assert registry.get_sample_value("cesta_events_refused_total", {"code": code}) == 1
    assert registry.get_sample_value("cesta_events_total", {"result": "known"}) == 1


def test_a_source_goes_on_behind_what_it_has_read(cluster: Cluster, log: EventLog, tmp_path: Path) -> None:
    cluster.send(*(event(f"a{n}") for n in range(20)))
    with source_of(cluster, log, tmp_path, CollectorRegistry()):
        await_(lambda: len(kept(tmp_path)) == 20)
    registry = CollectorRegistry()
    cluster.send(*(event(f"b{n}") for n in range(20)))
    with source_of(cluster, log, tmp_path, registry):
        await_(lambda: len(kept(tmp_path)) == 40)
    assert registry.get_sample_value("cesta_events_total", {"result": "accepted"}) == 20
    assert registry.get_sample_value("cesta_events_total", {"result": "known"}) == 0


def test_a_reader_that_is_killed_again_and_again_counts_each_message_once(
    cluster: Cluster, tmp_path: Path
) -> None:
    sent = [f"e{n}" for n in range(6000)]
    cluster.send(*map(event, sent))
    command = [sys.executable, "-m", "tests.running.kafka_reader", cluster.address, str(tmp_path / "log")]
    for share in (1, 2000, 4000, 6000):
        reader = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            await_(lambda share=share: (tmp_path / "log").exists() and len(kept(tmp_path / "log")) >= share)
        finally:
            reader.kill()
            reader.wait()
    assert sorted(kept(tmp_path / "log")) == sorted(sent)
    store = SqliteStore(tmp_path / "log")
    assert sum(store.offsets("sales").values()) == len(sent)
    store.close()


def test_a_cluster_that_is_away_is_a_fault_that_is_told(log: EventLog, tmp_path: Path) -> None:
    source = KafkaSource("kafka://127.0.0.1:1/sales", log, Figures(CollectorRegistry()), lambda _: {})
    with source:
        await_(lambda: source.fault)
    assert "Broker" in source.fault or "broker" in source.fault


@pytest.mark.parametrize(
    "address", ["kafka://host:9092", "http://host/topic", "kafka:///sales", "kafka://h:1/a/b"]
)
def test_another_address_is_refused(address: str, log: EventLog) -> None:
    with pytest.raises(CestaError, match="kafka://host:port/topic"):
        KafkaSource(address, log, Figures(CollectorRegistry()), lambda _: {})


def test_settings_with_a_password_come_from_a_file(
    log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "settings").write_text("# of the broker\nsasl.username = till\nsasl.password=a=b\n")
    monkeypatch.setenv("CESTA_KAFKA_SETTINGS_FILE", str(tmp_path / "settings"))
    source = KafkaSource("kafka://h:1/sales", log, Figures(CollectorRegistry()), lambda _: {})
    assert source._settings["sasl.password"] == "a=b"
    assert source._settings["enable.auto.commit"] is False
