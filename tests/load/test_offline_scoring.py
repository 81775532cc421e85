"""The table of `python -m loadtests.offline_scoring`, and when two lists count as equal."""

import numpy as np
import pytest

from loadtests.offline_scoring import are_equal, sections


@pytest.mark.parametrize(
    ("items", "scores", "equal"),
    [
        (["a", "b", "c"], [3.0, 2.0, 1.0], True),
        (["a", "c", "b"], [3.0, 2.0, 1.0], True),  # the order is in the scores
        (["a", "b", "d"], [3.0, 2.0, 1.00005], True),  # d ties with c, the last one
        (["a", "d", "c"], [3.0, 2.0, 1.0], False),
        (["a", "b", "c"], [3.0, 2.1, 1.0], False),
        (["a", "b"], [3.0, 2.0], False),
    ],
)
def test_lists_are_equal_but_for_ties(items: list[str], scores: list[float], equal: bool) -> None:
    ours = [("a", 3.0), ("b", 2.0), ("c", 1.0)]
    assert are_equal(ours, items, np.array(scores, np.float32)) is equal


def test_the_table_has_a_line_for_each_way() -> None:
    """50 users in 5 s are 10 a second, each with 2 million items."""
    row = {"users": 50, "items": 2_000_000, "wall_s": 5.0, "cpu_s": 9.0, "peak_mib": 1234.5}
    result = {
        "started": "2026-11-30",
        "machine": {"cores": 2, "cpu": "a processor"},
        "busy_cores_before": 0.1,
        "rows": {"cesta score": row, "a plain loop": row | {"wall_s": 10.0}},
        "equal": 0.995,
    }
    made = sections(result)
    assert "50 users, 2,000,000 items" in made["offline_scoring_run"]
    assert "99.50%" in made["offline_scoring_run"]
    assert made["offline_scoring"].splitlines()[2:] == [
        "| cesta score | 10.0 | 20.0 M | 5.0 s | 9.0 s | 1,234 MiB |",
        "| a plain loop | 5.0 | 10.0 M | 10.0 s | 9.0 s | 1,234 MiB |",
    ]
