"""The problems of a shop's tables: collected while the tables are read, reported together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pandas as pd

from operations.errors import CestaError
from operations.terminal import printable

SHOWN_ROWS = 5  # enough to see the pattern, few enough to read
SHOWN_NAMES = 20
LONGEST = 60  # letters of a cell or a name


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "…"


def show(value: object) -> str:
    """Write a cell for an error message: short and on one line."""
    if value is None or value is pd.NaT or value != value or value in ("", b""):
        return "(empty)"
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return _cut(printable(f'"{text}"' if isinstance(value, str | bytes) else text))


def listed(names: Sequence[str]) -> str:
    """Write names of columns for an error message: the first ones, as cells are shown."""
    more = [f"… and {len(names) - SHOWN_NAMES:,} more"] if len(names) > SHOWN_NAMES else []
    return ", ".join([*(_cut(printable(name)) for name in names[:SHOWN_NAMES]), *more])


@dataclass(frozen=True)
class Problem:
    """One kind of problem in one table, with its first rows and the way out."""

    table: str
    what: str
    way_out: str
    rows: tuple[
        tuple[int | str, str], ...
    ] = ()  # (row number in the file, value), the first few; see places.py
    count: int = 0  # affected rows in all; 0 when the problem does not concern single rows

    def __str__(self) -> str:
        rows = f" ({self.count:,} {'row' if self.count == 1 else 'rows'})" if self.count else ""
        lines = [f"{self.table}: {self.what}{rows}"]
        lines += [f"    row {row}: {value}" for row, value in self.rows]
        if self.count > len(self.rows):
            lines.append(f"    … and {self.count - len(self.rows):,} more")
        return "\n".join(map(printable, [*lines, f"    way out: {self.way_out}"]))


class BadInput(CestaError):  # noqa: N818 - "except BadInput" reads
    """The tables cannot be used. `problems` holds the reasons, and the message prints all of them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        noun = "problem" if len(self.problems) == 1 else "problems"
        parts = [f"{len(self.problems)} {noun} in the input", *map(str, self.problems)]
        super().__init__("\n  ".join("\n".join(parts).split("\n")))


@dataclass
class Problems:
    """Collects problems while tables are read, so that one report names all of them."""

    collected: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)  # what was read, but may be a mistake

    def add(self, problem: Problem) -> None:
        self.collected.append(problem)

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)

    def raise_if_any(self) -> None:
        """Raise BadInput if a problem was added."""
        if self.collected:
            raise BadInput(self.collected)


@dataclass
class BadRows:
    """Rows of one kind, over all parts: how many, and the first of them as (row, shown)."""

    count: int = 0
    first: list[tuple[int, str]] = field(default_factory=list)

    def add(self, row: int, shown: Callable[[], str]) -> None:
        self.count += 1
        if len(self.first) < SHOWN_ROWS:
            self.first.append((row, shown()))

    def join(self, later: BadRows, base: int) -> None:
        """Add the rows of a later part, whose numbers begin at `base`."""
        self.count += later.count
        room = SHOWN_ROWS - len(self.first)
        self.first += [(base + row, shown) for row, shown in later.first[:room]]
