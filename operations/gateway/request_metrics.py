"""The gateway's own metrics as part of the supervisor's: nginx counts, and each scrape reads its counts."""

from collections.abc import Iterator
from pathlib import Path

import structlog
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from operations.gateway.control import read_metrics

log = structlog.get_logger()


class RequestMetrics(Collector):
    """The metrics of the gateway in `folder`; none while it does not answer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        text = read_metrics(self._folder) or ""
        try:
            families = list(text_string_to_metric_families(text))
        except ValueError as error:  # the supervisor's other metrics must still be told
            log.error("gateway's metrics not read", reason=str(error))
            return
        yield from families
