"""What shops were answered, by release: the counts of the gateway and of the sampler at one moment.

Counters of a program that was started again begin at 0. Who compares two moments must allow for that.
"""

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypedDict

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from operations.gateway.control import read_metrics
from operations.releases.models.configs import canary_on_disk
from operations.releases.repository import active_release
from operations.releases.stores.store import Repository

ROUTES: Final = frozenset({"recommend", "batch", "tensors", "grpc"})  # those of shops
SLOW: Final = "0.05"  # seconds, a bound of the gateway's histogram: the objective of 99 % of the requests
PAGE_S: Final = 2.0
ANSWERED, FAILED, COVERED = "answered", "failed", "covered"
TIMED, QUICK = "timed", "quick"
QUERIES, ITEMS, UNKNOWN, PROBES = "queries", "items", "unknown", "probes"
NAMES: Final = (ANSWERED, FAILED, COVERED, TIMED, QUICK, QUERIES, ITEMS, UNKNOWN, PROBES)

Counts = dict[str, dict[str, float]]  # one of NAMES → model or release → count


class Traffic(TypedDict):
    """The releases that answer, and their counts.

    answered  requests of shops by model, whatever their status
    failed    those of them with a status of 5xx
    covered   questions that the canary release left to the active one; label ""
    timed     requests by release, and ``quick`` those within SLOW seconds
    queries   what the sampler of a release was asked, past the cache; ``items`` ids, ``unknown`` of them
    probes    queries of the supervisor itself, with one unknown item each, to the active release; label ""
    """

    active: int | None
    canary: int | None
    counts: Counts | None  # None: no gateway answers


def read_traffic(repository: Repository, folder: Path, page: str, probes: int) -> Traffic:
    """Read the counts of the gateway in ``folder`` and of the Triton whose metrics are at ``page``."""
    canary, text = canary_on_disk(repository), read_metrics(folder)
    counts: Counts | None = None
    if text is not None:
        counts = {name: {} for name in NAMES}
        for sample in (*_samples(text), *_samples(_read_page(page))):
            _count(sample, counts)
        counts[PROBES] = {"": probes}
    return {"active": active_release(repository), "canary": canary and canary.release, "counts": counts}


def _count(sample: Sample, counts: Counts) -> None:
    labels = sample.labels
    model, release = labels.get("model", ""), labels.get("release", "")
    of_shops = labels.get("route") in ROUTES

    def add(name: str, label: str) -> None:
        counts[name][label] = counts[name].get(label, 0.0) + sample.value

    match sample.name:
        case "cesta_gateway_requests_total" if of_shops and model:
            add(ANSWERED, model)
            if labels["status"].startswith("5"):
                add(FAILED, model)
        case "cesta_gateway_canary_failures_total":
            add(COVERED, "")
        case "cesta_gateway_request_seconds_count" if of_shops and release:
            add(TIMED, release)
        case "cesta_gateway_request_seconds_bucket" if of_shops and release and labels["le"] == SLOW:
            add(QUICK, release)
        case "cesta_sampler_queries_total":
            add(QUERIES, release)
        case "cesta_sampler_item_ids_total":
            add(ITEMS, release)
            if labels["item"] == "unknown":
                add(UNKNOWN, release)


def _samples(text: str) -> Iterator[Sample]:
    for family in text_string_to_metric_families(text):
        yield from family.samples


def _read_page(address: str) -> str:
    """Return Triton's metrics; nothing while it does not answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}/metrics", timeout=PAGE_S) as answer:
            text: str = answer.read().decode()
            return text
    except (OSError, ValueError):
        return ""
