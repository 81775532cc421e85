"""What can go wrong offline, as one tree.

CestaError          every error whose message is meant for the person at the keyboard
├── BadSettings     pipeline.toml, a user's own toml or an override
├── BadInput        a shop's tables; holds every problem found, not only the first
├── BeingChanged    a repository that somebody else changes just now; nothing was done
├── NotPromoted     a release that did not become the active one; the one before still is
└── WontOverwrite   a target folder that cesta did not write
"""

from collections.abc import Sequence
from dataclasses import dataclass, field


class CestaError(Exception):
    """Base of all errors with a message written for the user."""


class BadSettings(CestaError):  # noqa: N818 - the name says what is wrong, "except BadInput" reads
    """A settings file or override that cannot be used."""


class BeingChanged(CestaError):  # noqa: N818 - likewise
    """A repository that another process holds; it will be free in a moment."""


class NotPromoted(CestaError):  # noqa: N818 - likewise
    """A promotion or rollback that failed on its way and was undone."""


class WontOverwrite(CestaError):  # noqa: N818 - likewise
    """A folder in the way that was not written by cesta."""


@dataclass(frozen=True)
class Problem:
    """One kind of trouble in one table: what it is, how often, where first, and the way out."""

    table: str
    what: str
    way_out: str
    rows: tuple[tuple[int, str], ...] = ()  # (row number in the file, value), the first few
    count: int = 0  # affected rows in all; 0 when the trouble is not one of rows

    def __str__(self) -> str:
        rows = f" ({self.count:,} {'row' if self.count == 1 else 'rows'})" if self.count else ""
        lines = [f"{self.table}: {self.what}{rows}"]
        lines += [f"    row {row}: {value}" for row, value in self.rows]
        if self.count > len(self.rows):
            lines.append(f"    … and {self.count - len(self.rows):,} more")
        return "\n".join([*lines, f"    way out: {self.way_out}"])


class BadInput(CestaError):  # noqa: N818 - likewise
    """The tables cannot be used; `problems` lists why, the message prints all of them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        noun = "problem" if len(self.problems) == 1 else "problems"
        parts = [f"{len(self.problems)} {noun} in the input", *map(str, self.problems)]
        super().__init__("\n  ".join("\n".join(parts).split("\n")))


@dataclass
class Problems:
    """Collects problems while tables are read, so that one report names them all."""

    found: list[Problem] = field(default_factory=list)

    def add(self, problem: Problem) -> None:
        self.found.append(problem)

    def raise_if_any(self) -> None:
        """Raise BadInput when a problem was added."""
        if self.found:
            raise BadInput(self.found)
