"""Limits that fail a load test: read from budgets.toml, held against what was measured."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

FILE: Final = Path(__file__).with_name("budgets.toml")


class UnknownBudgetError(Exception):
    """A budget that the file does not have, or a limit that does not exist."""


@dataclass(frozen=True)
class Budget:
    """Limits of one shape; `at_least` holds for throughput alone."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    error_rate: float  # share of the requests
    requests_per_s: float  # at least


def load_budget(name: str, file: Path = FILE) -> Budget:
    """The budget `name`. Raises UnknownBudgetError naming what there is."""
    tables = tomllib.loads(file.read_text(encoding="utf-8"))
    if name not in tables:
        raise UnknownBudgetError(f"{file} has no budget [{name}]; it has {', '.join(sorted(tables))}")
    known = {field.name for field in fields(Budget)}
    if different := known ^ tables[name].keys():
        raise UnknownBudgetError(f"[{name}] in {file} lacks or does not know: {', '.join(sorted(different))}")
    return Budget(**tables[name])


def broken(budget: Budget, measured: Mapping[str, float]) -> list[str]:
    """A sentence for each limit that `measured`, by the limits' names, does not keep."""
    sentences = []
    for field in fields(Budget):
        limit, value = getattr(budget, field.name), measured[field.name]
        least = field.name == "requests_per_s"
        if (value < limit) if least else (value > limit):
            sentences.append(
                f"{field.name} is {value:.4g}, {'at least' if least else 'at most'} {limit:g} is allowed"
            )
    return sentences
