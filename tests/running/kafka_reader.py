"""Copies a Kafka topic into a folder until it is killed.

python -m tests.running.kafka_reader ADDRESS FOLDER
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from prometheus_client import CollectorRegistry

from operations.events.figures import Figures
from operations.events.kafka_source import KafkaSource
from operations.events.log import EventLog
from operations.events.sqlite_store import SqliteStore


def main(address: str, folder: Path) -> None:
    log = EventLog(lambda: SqliteStore(folder))
    log.start()

    def offsets_of(topic: str) -> dict[int, int]:
        store = SqliteStore(folder)
        found = dict(store.offsets(topic))
        store.close()
        return found

    with KafkaSource(address, log, Figures(CollectorRegistry()), offsets_of):
        threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
