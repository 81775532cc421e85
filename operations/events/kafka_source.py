"""A Kafka topic as a source of events: copies it into the log. Needs `pip install 'cesta[kafka]'`.

The offsets are kept in the log, in the transaction of their events. So a message counts once whenever this
process is killed, and nothing is committed to Kafka.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import structlog

from operations.errors import CestaError
from operations.events.event import BadEvent, Event
from operations.events.figures import Figures
from operations.events.intake import take_in
from operations.events.log import EventLog
from operations.events.store import Offset, StoreFault

log = structlog.get_logger()

SETTINGS_FILE: Final = "CESTA_KAFKA_SETTINGS_FILE"  # lines of librdkafka's name=value, such as sasl.password
MOST: Final = 500  # messages of one commit
WAIT_S: Final = 0.2
AGAIN_S: Final = 2.0  # after a failure
LOOK_S: Final = 30.0  # between two looks for new partitions


class KafkaSource:
    """Follows the topic of `kafka://host:port[,host:port]/topic` inside a `with` block.

    ``offsets_of`` returns how far the topic was read. ``first_ms`` is the beginning of the receipts.

    Raises CestaError for another address, and without the package.
    """

    def __init__(
        self,
        address: str,
        event_log: EventLog,
        figures: Figures,
        offsets_of: Callable[[str], Mapping[int, int]],
        first_ms: Callable[[], int | None] = lambda: None,
    ) -> None:
        parts = urlsplit(address)
        self.topic = parts.path.strip("/")
        if parts.scheme != "kafka" or not parts.netloc or not self.topic or "/" in self.topic:
            raise CestaError(f"a source of events is kafka://host:port/topic; got {address}")
        try:
            import confluent_kafka
        except ModuleNotFoundError:
            raise CestaError("events from Kafka need a package; run: pip install 'cesta[kafka]'") from None
        self._kafka: Any = confluent_kafka
        self._settings = {
            "bootstrap.servers": parts.netloc,
            **_settings(),
            "group.id": "cesta-events",  # unused: offsets are kept in the log
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
        self._log, self._figures = event_log, figures
        self._offsets_of, self._first_ms = offsets_of, first_ms
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="events' source", daemon=True)
        self.fault: str | None = None
        self.lag = 0  # messages that were not read yet, when somebody looked last

    def __enter__(self) -> "KafkaSource":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self._follow()
            except (CestaError, OSError, self._kafka.KafkaException) as error:
                if self.fault is None:
                    log.warning("source of events stopped", topic=self.topic, reason=str(error))
                self.fault = str(error)
                self._ending.wait(AGAIN_S)

    def _follow(self) -> None:
        consumer = self._kafka.Consumer(self._settings)
        try:
            next_of = dict(self._offsets_of(self.topic))
            looked_s = -LOOK_S
            while not self._ending.is_set():
                if time.monotonic() - looked_s >= LOOK_S:
                    self._assign(consumer, next_of)
                    looked_s = time.monotonic()
                if messages := consumer.consume(MOST, WAIT_S):
                    self._keep(messages, next_of)
                self.lag = sum(self._behind(consumer, next_of))
                self.fault = None
        finally:
            consumer.close()

    def _assign(self, consumer: Any, next_of: Mapping[int, int]) -> None:
        """Read all partitions of the topic, each from where its events end in the log."""
        about = consumer.list_topics(self.topic, timeout=10).topics[self.topic]
        if about.error is not None:
            raise StoreFault(f"topic {self.topic}: {about.error.str()}")
        wanted = sorted(about.partitions)
        if sorted(part.partition for part in consumer.assignment()) == wanted:
            return
        start = self._kafka.OFFSET_BEGINNING
        consumer.assign(
            [self._kafka.TopicPartition(self.topic, part, next_of.get(part, start)) for part in wanted]
        )

    def _keep(self, messages: list[Any], next_of: dict[int, int]) -> None:
        """Keep the events of messages with their offsets; a commit that fails is tried until it succeeds."""
        events: list[Event] = []
        moved: dict[int, int] = {}
        for message in messages:
            if error := message.error():
                raise StoreFault(f"topic {self.topic}: {error.str()}")
            events += self._read(message)
            moved[message.partition()] = message.offset() + 1
        offsets = [Offset(self.topic, part, offset) for part, offset in moved.items()]
        while not self._ending.is_set():
            try:
                outcomes = self._log.offer(events, offsets).result()
            except CestaError as error:  # the disk is full, or others fill the queue
                self.fault = str(error)
                self._ending.wait(AGAIN_S)
                continue
            next_of.update(moved)
            for outcome in outcomes:
                self._figures.count(outcome)
            return

    def _read(self, message: Any) -> list[Event]:
        """Return the events of a message without those that are refused, which must not stop the rest."""
        body = message.value()
        if not body:
            return []
        try:
            intake = take_in(body, False, self._log.now_ms(), self._first_ms())
        except BadEvent as error:
            codes = [error.code]
            events: list[Event] = []
        else:
            codes = [refusal.code for refusal in intake.refused]
            events = list(intake.events)
        for code in codes:
            self._figures.refuse(code)
            place = {"topic": self.topic, "partition": message.partition(), "offset": message.offset()}
            log.warning("event refused", code=code, **place)
        return events

    def _behind(self, consumer: Any, next_of: Mapping[int, int]) -> Iterator[int]:
        for part in consumer.assignment():
            low, high = consumer.get_watermark_offsets(part, cached=True)
            if high > 0:  # known
                yield max(0, high - next_of.get(part.partition, max(low, 0)))


def _settings() -> dict[str, str]:
    """Return the settings of the file that the environment names. A password is only there."""
    file = os.environ.get(SETTINGS_FILE)
    if not file:
        return {}
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CestaError(f"the settings of {SETTINGS_FILE} cannot be read: {error}") from None
    pairs = [line.partition("=") for line in lines if line.strip() and not line.startswith("#")]
    return {name.strip(): value.strip() for name, _, value in pairs}
