"""Reads the limits of a load test from budgets.toml, and compares measurements with them."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

FILE: Final = Path(__file__).with_name("budgets.toml")


class UnknownBudgetError(Exception):
    """The file has no such budget, or a budget has an unknown or a missing limit."""


@dataclass(frozen=True)
class Budget:
    """The limits of one shape: upper limits, and a lower one for the throughput."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    error_rate: float  # share of the requests
    requests_per_s: float  # a lower limit


def load_budget(name: str, file: Path = FILE) -> Budget:
    """The budget `name`. Raises UnknownBudgetError with the names that exist."""
    tables = tomllib.loads(file.read_text(encoding="utf-8"))
    if name not in tables:
        raise UnknownBudgetError(f"{file} has no budget [{name}]; it has {', '.join(sorted(tables))}")
    limits = {field.name for field in fields(Budget)}
    if different := limits ^ tables[name].keys():
        raise UnknownBudgetError(
            f"[{name}] in {file} has unknown or missing limits: {', '.join(sorted(different))}"
        )
    return Budget(**tables[name])


def load_shares(name: str, file: Path = FILE) -> dict[str, dict[int, float]]:
    """The least shares of the budget `name`, by what they are a share of and the number of connections."""
    tables = tomllib.loads(file.read_text(encoding="utf-8"))
    if name not in tables:
        raise UnknownBudgetError(f"{file} has no budget [{name}]; it has {', '.join(sorted(tables))}")
    return {
        other: {int(connections): float(share) for connections, share in shares.items()}
        for other, shares in tables[name].items()
    }


def find_broken_limits(budget: Budget, measured: Mapping[str, float]) -> list[str]:
    """A sentence for each limit that a measured value breaks; `measured` has the limits' names as keys."""
    sentences = []
    for field in fields(Budget):
        limit, value = getattr(budget, field.name), measured[field.name]
        is_lower = field.name == "requests_per_s"
        if (value < limit) if is_lower else (value > limit):
            sentences.append(
                f"{field.name} is {value:.4g}, {'at least' if is_lower else 'at most'} {limit:g} is allowed"
            )
    return sentences
