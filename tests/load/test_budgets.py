"""A run names each budget that it breaks; a budget that does not exist is an error."""

from pathlib import Path

import pytest

from loadtests.load.budgets import Budget, UnknownBudgetError, find_broken_limits, load_budget
from loadtests.load.shapes import SHAPES

KEPT = {"p50_ms": 10.0, "p95_ms": 20.0, "p99_ms": 30.0, "error_rate": 0.0, "requests_per_s": 50.0}
BUDGET = Budget(**KEPT)


def test_what_is_exactly_at_its_limit_is_kept() -> None:
    assert find_broken_limits(BUDGET, KEPT) == []


@pytest.mark.parametrize("name", ["p50_ms", "p95_ms", "p99_ms", "error_rate"])
def test_what_is_above_its_limit_is_named(name: str) -> None:
    (sentence,) = find_broken_limits(BUDGET, KEPT | {name: KEPT[name] + 1})
    assert sentence.startswith(f"{name} is {KEPT[name] + 1:g}")


def test_too_few_requests_are_named() -> None:
    (sentence,) = find_broken_limits(BUDGET, KEPT | {"requests_per_s": 49.0})
    assert sentence == "requests_per_s is 49, at least 50 is allowed"


@pytest.mark.parametrize("name", [*SHAPES, "open_loop"])
def test_every_shape_has_a_budget(name: str) -> None:
    assert load_budget(name).p50_ms > 0


def test_a_misspelt_limit_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "budgets.toml"
    file.write_text("[smoke]\np50_ms = 1\np95_ms = 1\np99 = 1\nerror_rate = 0\nrequests_per_s = 1\n")
    with pytest.raises(UnknownBudgetError, match="p99, p99_ms"):
        load_budget("smoke", file)


def test_a_missing_budget_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "budgets.toml"
    file.write_text("")
    with pytest.raises(UnknownBudgetError, match=r"no budget \[smoke\]"):
        load_budget("smoke", file)


def test_a_spike_goes_up_and_comes_down() -> None:
    """The shape has a tenth of the shoppers, all of them, a tenth, none."""
    at = [SHAPES["spike"].shoppers_at(t, length_s=100, shoppers=50) for t in (0, 39, 41, 59, 61, 99, 100)]
    assert at == [5, 5, 50, 50, 5, 5, None]
