"""The NCF paper's own files (He et al. 2017): training ratings, one test item per user, its negatives.

train, test   user, item, rating and, where there is one, time stamp; tabs between them
negatives     (user,item), then items the user never met; line n belongs to line n of the test file
"""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from operations.errors import CestaError

Rows = NDArray[np.int64]
LARGEST = 2**62  # an id beyond it is a slip, and would not fit the arrays


@dataclass(frozen=True)
class Protocol:
    """Leave-one-out as the paper measures it. Users and items are rows from 1; row 0 is the unknown."""

    users: Rows  # (n,) of the training file, in its order, each user and item once
    items: Rows  # (n,)
    times: NDArray[np.float64]  # (n,) 0 where the file has none
    test_users: Rows  # (m,)
    test_items: Rows  # (m,)
    negatives: Rows  # (m, k)
    n_users: int  # rows, row 0 included
    n_items: int

    @property
    def repeats(self) -> int:
        """Test items that their user has in the training file too: leave-one-out did not leave these out."""
        trained = self.users * self.n_items + self.items
        return int(np.isin(self.test_users * self.n_items + self.test_items, trained).sum())


@dataclass(frozen=True)
class _Ratings:
    """A file of ratings as it stands there; ids are the file's."""

    users: Rows
    items: Rows
    times: NDArray[np.float64]
    lines: Rows  # line numbers, for complaints


def read_protocol(train: Path, test: Path, negatives: Path) -> Protocol:
    """Read the three files; the catalog is every item that any of them names.

    Raises CestaError with file, line and way out at the first thing that is not the paper's format.
    """
    training, tested = _ratings(train, least=0.0), _ratings(test)
    again = _second_of_its_kind(tested.users)
    if again is not None:
        raise _bad(
            test,
            int(tested.lines[again]),
            f"user {tested.users[again]} has a test line already",
            "leave one line per user",
        )
    sampled = _negatives(negatives, tested, test)
    user_ids, users = np.unique(np.concatenate([training.users, tested.users]), return_inverse=True)
    item_ids, items = np.unique(
        np.concatenate([training.items, tested.items, sampled.ravel()]), return_inverse=True
    )
    n, m = len(training.users), len(tested.users)
    users, items = users + 1, items + 1
    # A pair rated twice is one positive, the later one.
    _, last = np.unique((users[:n] * (len(item_ids) + 1) + items[:n])[::-1], return_index=True)
    kept = np.sort(n - 1 - last)
    rated = np.bincount(users[kept])
    if rated.max() < 2:
        raise CestaError(
            f"{train}: no user has two items, so none can be held out to choose the epoch; give more"
        )
    if rated.max() == len(item_ids):
        raise CestaError(
            f"{train}: user {user_ids[rated.argmax() - 1]} has all {len(item_ids)} items, which leaves no "
            "negative to draw; leave the user out of all three files"
        )
    return Protocol(
        users=users[kept],
        items=items[kept],
        times=training.times[kept],
        test_users=users[n:],
        test_items=items[n : n + m],
        negatives=items[n + m :].reshape(sampled.shape),
        n_users=len(user_ids) + 1,
        n_items=len(item_ids) + 1,
    )


def _ratings(path: Path, least: float = -np.inf) -> _Ratings:
    """Lines with a rating above ``least``; above 0 in training, as the paper's own reader has it."""
    users, items, times, lines = [], [], [], []
    width = 0
    for number, line in _lines(path):
        cells = line.split("\t")
        width = width or len(cells)
        if len(cells) not in (3, 4) or len(cells) != width:
            expected = (
                "3 or 4 (user, item, rating, time stamp)" if width not in (3, 4) else f"{width} as above"
            )
            raise _bad(path, number, f"{_columns(len(cells))}, expected {expected}", "put tabs between them")
        user, item = _id(path, number, "user", cells[0]), _id(path, number, "item", cells[1])
        rating, *time = (_number(path, number, cell) for cell in cells[2:])
        if rating > least:
            users.append(user)
            items.append(item)
            times.append(time[0] if time else 0.0)
            lines.append(number)
    if not users:
        raise CestaError(
            f"{path} holds no ratings{' above 0' if least == 0 else ''}; "
            "give lines of user, item, rating and time stamp"
        )
    return _Ratings(np.array(users), np.array(items), np.array(times), np.array(lines))


def _negatives(path: Path, tested: _Ratings, test: Path) -> Rows:
    """(m, k) item ids, checked against the test file line by line."""
    found: list[list[int]] = []
    known = set(tested.users.tolist())
    for number, line in _lines(path):
        pair, *cells = line.split("\t")
        user, item = _pair(path, number, pair)
        if user not in known:
            raise _bad(path, number, f"user {user} has no line in {test.name}", "take both from one split")
        if len(found) == len(tested.users):
            raise _bad(path, number, f"{test.name} has {len(found)} lines only", "take both from one split")
        expected = int(tested.users[len(found)]), int(tested.items[len(found)])
        if (user, item) != expected:
            raise _bad(
                path,
                number,
                f"({user},{item}) stands where line {tested.lines[len(found)]} of {test.name} has "
                f"({expected[0]},{expected[1]})",
                "bring both files into one order",
            )
        row = [_id(path, number, "item", cell) for cell in cells]
        if not row:
            raise _bad(path, number, "no negatives after the pair", "put a tab before each")
        if found and len(row) != len(found[0]):
            raise _bad(
                path,
                number,
                f"{len(row)} negatives, the lines above have {len(found[0])}",
                "give all the same number",
            )
        if item in row:
            raise _bad(path, number, f"test item {item} is among its own negatives", "draw another negative")
        found.append(row)
    if len(found) < len(tested.users):
        user = tested.users[len(found)]
        raise CestaError(
            f"{path} ends after {len(found)} users and {test.name} has {len(tested.users)}: no negatives for "
            f"user {user}; take both from one split"
        )
    return np.array(found, np.int64)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that hold something, with their numbers from 1; a name in .gz is unpacked."""
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8-sig")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8-sig") as file
        ):
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.rstrip()
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise CestaError(f"{path} cannot be read: {reason}; give the path of an NCF file") from None
    except UnicodeDecodeError:
        raise CestaError(f"{path} is not text; give a tab-separated file, or its .gz") from None


def _pair(path: Path, line: int, text: str) -> tuple[int, int]:
    """ "(4,12)" → 4, 12"""
    user, comma, item = text.strip().removeprefix("(").removesuffix(")").partition(",")
    if not comma or not text.startswith("("):
        raise _bad(
            path, line, f'it starts with "{text[:40]}"', "write (user,item), a tab, then the negatives"
        )
    return _id(path, line, "user", user), _id(path, line, "item", item)


def _id(path: Path, line: int, what: str, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = LARGEST
    if not -LARGEST < value < LARGEST:
        raise _bad(path, line, f'{what} "{text[:40]}" is not a number', "number users and items (no header)")
    return value


def _number(path: Path, line: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise _bad(path, line, f'"{text[:40]}" is not a number', "ratings and time stamps are numbers")
    return value


def _second_of_its_kind(values: Rows) -> int | None:
    """Place of the first value that stands further up already."""
    _, first = np.unique(values, return_index=True)
    later = np.setdiff1d(np.arange(len(values)), first)
    return int(later[0]) if len(later) else None


def _columns(n: int) -> str:
    return f"{n} column" if n == 1 else f"{n} columns"


def _bad(path: Path, line: int, what: str, way_out: str) -> CestaError:
    return CestaError(f"{path}, line {line}: {what}; {way_out}")
