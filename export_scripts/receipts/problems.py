"""The problems of a shop's tables: collected while the tables are read, reported together."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from operations.errors import CestaError


@dataclass(frozen=True)
class Problem:
    """One kind of problem in one table, with its first rows and the way out."""

    table: str
    what: str
    way_out: str
    rows: tuple[tuple[int, str], ...] = ()  # (row number in the file, value), the first few
    count: int = 0  # affected rows in all; 0 when the problem does not concern single rows

    def __str__(self) -> str:
        rows = f" ({self.count:,} {'row' if self.count == 1 else 'rows'})" if self.count else ""
        lines = [f"{self.table}: {self.what}{rows}"]
        lines += [f"    row {row}: {value}" for row, value in self.rows]
        if self.count > len(self.rows):
            lines.append(f"    … and {self.count - len(self.rows):,} more")
        return "\n".join([*lines, f"    way out: {self.way_out}"])


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

    def add(self, problem: Problem) -> None:
        self.collected.append(problem)

    def raise_if_any(self) -> None:
        """Raise BadInput if a problem was added."""
        if self.collected:
            raise BadInput(self.collected)
