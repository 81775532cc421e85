"""The sampler's counts, by hand; tests/serving checks that they reach Triton's metrics page."""

import threading
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from ensemble.candidate_sampler.groups import NONE, OTHER, Groups
from ensemble.candidate_sampler.ids import Ids, Rows
from ensemble.candidate_sampler.metrics import HELP, KEPT, TURNS, Reporter, Tally
from ensemble.candidate_sampler.query import Query, Vocabulary
from ensemble.candidate_sampler.sources import POPULAR, TOGETHER, USUAL

SHOP = Vocabulary(*(Rows(Ids.pack([b"", *ids])) for ids in ([b"tea", b"milk"], [b"ann"], [], [])))


def read_counts(tally: Tally) -> dict[str, float]:
    """`name{labels}` → value, without the zeros."""
    return {
        f"{series.family}{sorted(series.labels.items())}": total for series, total in tally.lines() if total
    }


def value(tally: Tally, family: str, **labels: str) -> float:
    return read_counts(tally).get(f"{family}{sorted(labels.items())}", 0)


def sampled(*queries: Query, sources: list[list[int]] | None = None) -> Tally:
    tally = Tally()
    tally.sampled(queries, np.array(sources or [[0]] * len(queries), np.int32))
    return tally


@pytest.mark.parametrize(
    ("basket", "user_id", "labels"),
    [
        ([], b"", {"user": "none", "basket": "empty"}),
        ([b"tea", b"nope"], b"ann", {"user": "known", "basket": "known"}),
        ([b"nope"], b"bob", {"user": "unknown", "basket": "unknown"}),
    ],
)
def test_a_query_is_counted_by_what_was_known_of_it(
    basket: list[bytes], user_id: bytes, labels: dict[str, str]
) -> None:
    tally = sampled(SHOP.query(basket, user_id), SHOP.query(basket, user_id))
    assert value(tally, "cesta_sampler_queries_total", **labels) == 2
    assert sum("queries_total" in line for line in read_counts(tally)) == 1


def test_unknown_item_ids_are_counted_once_each() -> None:
    """Two of the basket's four distinct ids are unknown. Excluded ids and padding do not count."""
    basket = [b"tea", b"milk", b"nope", b"nope", b"neither", b""]
    tally = sampled(SHOP.query(basket, exclude=[b"what"]), SHOP.query([b"tea"]))
    assert value(tally, "cesta_sampler_item_ids_total", item="known") == 3
    assert value(tally, "cesta_sampler_item_ids_total", item="unknown") == 2


def test_a_candidate_of_a_pass_s_first_query_counts_for_each_of_its_sources() -> None:
    """Padding counts for none; neither do the other queries of the pass, of which there may be 63."""
    tally = sampled(Query(), Query(), sources=[[USUAL | TOGETHER, POPULAR, 0], [USUAL, USUAL, 0]])
    tally.sampled([Query()], np.array([[USUAL, USUAL]], np.int32))
    name = "cesta_sampler_candidates_total"
    candidates = {
        source: value(tally, name, source=source) for source in ("usual", "together", "popular", "similar")
    }
    assert candidates == {"usual": 3, "together": 1, "popular": 1, "similar": 0}


def test_basket_sizes_fill_a_cumulative_histogram() -> None:
    """The sizes are 0, 2 and 4, unknown ids included: two are up to 2, all three up to 5."""
    tally = sampled(Query(), Query(basket=[1, 2]), Query(basket=[1], unknown_items=3))
    name = "cesta_sampler_basket_items"
    buckets = {le: value(tally, f"{name}_bucket", le=le) for le in ("0", "1", "2", "3", "5", "100", "+Inf")}
    assert buckets == {"0": 1, "1": 1, "2": 2, "3": 2, "5": 3, "100": 3, "+Inf": 3}
    assert (value(tally, f"{name}_sum"), value(tally, f"{name}_count")) == (6, 3)


def test_each_stage_has_a_histogram_of_seconds_per_batch() -> None:
    tally = Tally()
    tally.took("sample", 0.002)
    tally.took("sample", 0.2)
    name = "cesta_sampler_stage_seconds"
    assert value(tally, f"{name}_bucket", stage="sample", le="0.0025") == 1
    assert value(tally, f"{name}_bucket", stage="sample", le="0.25") == 2
    assert value(tally, f"{name}_sum", stage="sample") == pytest.approx(0.202)
    assert value(tally, f"{name}_count", stage="parse") == 0


class Triton:
    """Takes the place of `pb_utils.MetricFamily`: records the calls, by name and labels of their series."""

    COUNTER = 0

    def __init__(self) -> None:
        self.calls: dict[str, list[float]] = {}

    def __call__(self, name: str, description: str, kind: int) -> SimpleNamespace:
        assert (bool(description), kind) == (True, self.COUNTER)
        return SimpleNamespace(Metric=partial(self._series, name))

    def _series(self, name: str, labels: dict[str, str]) -> SimpleNamespace:
        return SimpleNamespace(increment=self.calls.setdefault(f"{name}{sorted(labels.items())}", []).append)


def test_counts_are_sent_in_sum_at_the_latest_when_the_release_is_unloaded() -> None:
    """Three queries make one call, and a count of 0 makes none; each series exists from the start."""
    tally, triton = Tally(), Triton()
    reporter = Reporter(tally, triton, {"release": "7"}, period_s=60)
    tally.sampled([Query(), Query(), Query()], np.zeros((3, 1), np.int32))
    reporter.close()

    queries = {line: calls for line, calls in triton.calls.items() if "queries_total" in line}
    labels = [("basket", "empty"), ("release", "7"), ("user", "none")]
    assert {line: calls for line, calls in queries.items() if calls} == {
        f"cesta_sampler_queries_total{labels}": [3.0]
    }
    assert len(queries) == 9


def test_nothing_is_sent_twice() -> None:
    tally, triton = Tally(), Triton()
    reporter = Reporter(tally, triton, {}, period_s=0.01)
    (sent,) = [calls for line, calls in triton.calls.items() if "refused" in line]
    tally.refused(2)
    deadline = time.monotonic() + 60
    while not sent:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    tally.refused(3)
    reporter.close()
    assert sent == [2, 3]


class FailingTriton(Triton):
    """Refuses counts until it is well, and signals each call."""

    def __init__(self) -> None:
        super().__init__()
        self.well, self.asked = False, threading.Semaphore(0)

    def _series(self, name: str, labels: dict[str, str]) -> SimpleNamespace:
        taken = super()._series(name, labels)
        return SimpleNamespace(increment=partial(self._increment, taken)) if "refused" in name else taken

    def _increment(self, taken: SimpleNamespace, value: float) -> None:
        self.asked.release()
        if not self.well:
            raise RuntimeError("the server is busy")
        taken.increment(value)


def test_counts_that_triton_refuses_are_sent_later_and_once(caplog: pytest.LogCaptureFixture) -> None:
    """The thread continues. Counts that were accepted before the failure are not sent again. The log has one
    line.
    """
    tally, triton = Tally(), FailingTriton()
    tally.refused(2)
    tally.took("parse", 0.002)  # sent before the refused, in the same turn
    reporter = Reporter(tally, triton, {}, period_s=0.01)
    assert all(triton.asked.acquire(timeout=5) for _ in range(3))
    triton.well = True
    reporter.close()

    (refused,) = [calls for line, calls in triton.calls.items() if "refused" in line]
    (count,) = [calls for line, calls in triton.calls.items() if "seconds_count" in line and "parse" in line]
    assert (refused, count) == ([2.0], [1.0])
    (record,) = caplog.records
    assert "the server is busy" in record.getMessage()


def test_memory_is_bounded_while_nothing_can_be_sent() -> None:
    """Candidates of the oldest passes are dropped, queries are not."""
    tally = Tally()
    for _ in range(KEPT + 3):
        tally.sampled([Query()], np.array([[USUAL]], np.int32))
    assert value(tally, "cesta_sampler_candidates_total", source="usual") == KEPT
    assert value(tally, "cesta_sampler_queries_total", user="none", basket="empty") == KEPT + 3


def test_every_family_says_what_it_means() -> None:
    names = {series.family for series, _ in Tally().lines()}
    assert all(any(name.startswith(prefix) for prefix in HELP) for name in names)


def test_known_items_of_baskets_are_counted_by_group() -> None:
    """Items 1 and 2 are of one category. Unknown ids have no group. Each tenth look shows new counts."""
    groups = Groups(("tea", OTHER, NONE), np.array([2, 0, 0, 1], np.uint8), np.array([10, 0, 9, 9], np.uint8))
    tally = Tally(groups)
    tally.sampled([Query(basket=[1, 2]), Query(unknown_items=2)], np.zeros((2, 1), np.int32))
    tally.lines()
    tally.sampled([Query(basket=[1, 3])], np.zeros((1, 1), np.int32))
    for _ in range(TURNS - 1):
        tally.lines()
    counts = read_counts(tally)

    def of(family: str, label: str, values: tuple[str, ...]) -> list[float]:
        return [counts.get(f"cesta_sampler_basket_{family}_total{[(label, v)]}", 0) for v in values]

    assert of("categories", "category", groups.categories) == [3, 1, 0]
    assert of("tenths", "tenth", ("1", "10", "unsold")) == [2, 2, 0]
