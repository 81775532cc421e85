"""The sampler's counts, as Prometheus reads them from a real Triton."""

from __future__ import annotations

import re
import time
from urllib.request import urlopen

import pytest

from tests.running.live import Live
from tests.running.questions import Question, over_generate, over_grpc

pytestmark = pytest.mark.triton

LINE = re.compile(r"^(cesta_sampler_\w+){(.*)} (\S+)$", re.MULTILINE)


def scrape(uncached: Live) -> dict[str, float]:
    """`name{labels}` → value, without the labels that are the same everywhere."""
    with urlopen(f"http://{uncached.metrics}/metrics", timeout=30) as page:
        lines = LINE.findall(page.read().decode())
    constant_labels = {f'release="{uncached.release}"', 'model_instance="candidate_sampler_0_0"'}
    assert all(constant_labels <= set(labels.split(",")) for _, labels, _ in lines)
    return {
        f"{name}{{{','.join(sorted(set(labels.split(',')) - constant_labels))}}}": float(value)
        for name, labels, value in lines
    }


def await_count(uncached: Live, line: str, value: float) -> dict[str, float]:
    """Wait: the sampler sends its sums once a second."""
    deadline = time.monotonic() + 60
    while (figures := scrape(uncached))[line] < value:
        assert time.monotonic() < deadline, f"{line} is {figures[line]}, not {value}"
        time.sleep(0.05)
    return figures


def test_a_scrape_tells_who_asked_for_what(uncached: Live) -> None:
    """A batch of three and one refused request are each counted under the release that answered."""
    batches = 'cesta_sampler_stage_seconds_count{stage="parse"}'
    everything = "cesta_sampler_basket_items_count{}"
    before = await_count(uncached, everything, 1)  # the canary that found it ready
    item, user = uncached.item_ids[0], uncached.user_ids[0]

    over_grpc(
        uncached,
        [Question((item, "no such item"), user), Question((), "no such user"), Question(("no such item",))],
    )
    with pytest.raises(OSError, match="400"):
        over_generate(uncached, [Question(("x" * 129,))])

    await_count(uncached, everything, before[everything] + 3)
    after = await_count(uncached, batches, before[batches] + 2)
    gained = {line: after[line] - before[line] for line in after if after[line] != before[line]}
    assert {line: gain for line, gain in gained.items() if "queries" in line or "item_ids" in line} == {
        'cesta_sampler_queries_total{basket="known",user="known"}': 1,
        'cesta_sampler_queries_total{basket="empty",user="unknown"}': 1,
        'cesta_sampler_queries_total{basket="unknown",user="none"}': 1,
        'cesta_sampler_item_ids_total{item="known"}': 1,
        'cesta_sampler_item_ids_total{item="unknown"}': 2,
    }
    assert gained["cesta_sampler_refused_total{}"] == 1
    assert gained['cesta_sampler_candidates_total{source="usual"}'] > 0
    assert gained['cesta_sampler_stage_seconds_count{stage="sample"}'] == 1, (
        "the refused batch was not sampled"
    )
    assert 0 < gained['cesta_sampler_stage_seconds_sum{stage="sample"}'] < 5
