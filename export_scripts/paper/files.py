"""Read the files of the NCF paper (He et al. 2017): training ratings, a test item per user, its negatives.

NCF is neural collaborative filtering. Each line of a file has these cells, with tabs between them:

train, test   user, item, rating and optionally a time stamp
negatives     (user,item), then items that the user never chose; line n belongs to line n of the test file

The authors' ml-1m.test.negative has lines with the test item among its own negatives. Their evaluation
(evaluate.py of hexiangnan/neural_collaborative_filtering) collects the scores of a line by item, so an item
that stands twice in a line is ranked once. This module leaves out the second place in the same way.
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
LARGEST = 2**62  # larger ids are mistakes, and would not fit the arrays


@dataclass(frozen=True)
class Protocol:
    """The paper's data with one item per user left out. Users and items are rows from 1; row 0 is unknown."""

    users: Rows  # (n,) in the order of the training file, each pair of user and item once
    items: Rows  # (n,)
    times: NDArray[np.float64]  # (n,) 0 if the file has no time stamps
    test_users: Rows  # (m,)
    test_items: Rows  # (m,)
    negatives: Rows  # (m, k) 0 in place of the test item and of an item that already stands in the line
    own_negatives: int  # lines with the test item among its negatives
    n_users: int  # rows, row 0 included
    n_items: int

    @property
    def repeats(self) -> int:
        """The number of test items that are also in the training file, for the same user."""
        trained = self.users * self.n_items + self.items
        return int(np.isin(self.test_users * self.n_items + self.test_items, trained).sum())


@dataclass(frozen=True)
class _Ratings:
    """The content of a file of ratings, with the file's own ids."""

    users: Rows
    items: Rows
    times: NDArray[np.float64]
    lines: Rows  # line numbers, for error messages


def read_protocol(train: Path, test: Path, negatives: Path) -> Protocol:
    """Read the three files; the catalog holds every item that is in any of them.

    Raises CestaError with file, line and way out for the first line that is not in the paper's format.
    """
    training, testing = _read_ratings(train, above=0.0), _read_ratings(test)
    duplicate = _first_duplicate(testing.users)
    if duplicate is not None:
        raise _format_error(
            test,
            int(testing.lines[duplicate]),
            f"user {testing.users[duplicate]} already has a test line",
            "keep one line per user",
        )
    sampled = _read_negatives(negatives, testing, test)
    user_ids, users = np.unique(np.concatenate([training.users, testing.users]), return_inverse=True)
    item_ids, items = np.unique(
        np.concatenate([training.items, testing.items, sampled.ravel()]), return_inverse=True
    )
    n, m = len(training.users), len(testing.users)
    own = sampled == testing.items[:, None]
    users, items = users + 1, items + 1
    # The later one of two ratings of one pair counts.
    _, last = np.unique((users[:n] * (len(item_ids) + 1) + items[:n])[::-1], return_index=True)
    places = np.sort(n - 1 - last)
    ratings = np.bincount(users[places])
    if ratings.max() < 2:
        raise CestaError(
            f"{train}: no user has two items, so none can be held out to choose the epoch; give more ratings"
        )
    if ratings.max() == len(item_ids):
        raise CestaError(
            f"{train}: user {user_ids[ratings.argmax() - 1]} has all {len(item_ids)} items, so there is no "
            "negative to draw; remove the user from all three files"
        )
    return Protocol(
        users=users[places],
        items=items[places],
        times=training.times[places],
        test_users=users[n:],
        test_items=items[n : n + m],
        negatives=np.where(own | _repeats(sampled), 0, items[n + m :].reshape(sampled.shape)),
        own_negatives=int(own.any(1).sum()),
        n_users=len(user_ids) + 1,
        n_items=len(item_ids) + 1,
    )


def _read_ratings(path: Path, above: float = -np.inf) -> _Ratings:
    """Read the lines with a rating ``above`` a bound; the paper's own reader takes 0 for training."""
    users, items, times, lines = [], [], [], []
    width = 0
    for number, line in _lines(path):
        cells = line.split("\t")
        width = width or len(cells)
        if len(cells) not in (3, 4) or len(cells) != width:
            expected = (
                "3 or 4 (user, item, rating, time stamp)" if width not in (3, 4) else f"{width} as above"
            )
            raise _format_error(
                path, number, f"{_columns(len(cells))}, expected {expected}", "put tabs between them"
            )
        user, item = _read_id(path, number, "user", cells[0]), _read_id(path, number, "item", cells[1])
        rating, *time = (_read_number(path, number, cell) for cell in cells[2:])
        if rating > above:
            users.append(user)
            items.append(item)
            times.append(time[0] if time else 0.0)
            lines.append(number)
    if not users:
        raise CestaError(
            f"{path} has no ratings{' above 0' if above == 0 else ''}; "
            "give lines with user, item, rating and time stamp"
        )
    return _Ratings(np.array(users), np.array(items), np.array(times), np.array(lines))


def _read_negatives(path: Path, testing: _Ratings, test: Path) -> Rows:
    """Read the item ids (m, k), and check the file line by line against the test file."""
    rows: list[list[int]] = []
    users = set(testing.users.tolist())
    for number, line in _lines(path):
        pair, *cells = line.split("\t")
        user, item = _read_pair(path, number, pair)
        if user not in users:
            raise _format_error(
                path, number, f"user {user} has no line in {test.name}", "take both files from one split"
            )
        if len(rows) == len(testing.users):
            raise _format_error(
                path, number, f"{test.name} has only {len(rows)} lines", "take both files from one split"
            )
        expected = int(testing.users[len(rows)]), int(testing.items[len(rows)])
        if (user, item) != expected:
            raise _format_error(
                path,
                number,
                f"({user},{item}) does not match ({expected[0]},{expected[1]}) in line "
                f"{testing.lines[len(rows)]} of {test.name}",
                "put both files into the same order",
            )
        row = [_read_id(path, number, "item", cell) for cell in cells]
        if not row:
            raise _format_error(path, number, "no negatives after the pair", "put a tab before each")
        if rows and len(row) != len(rows[0]):
            raise _format_error(
                path,
                number,
                f"{len(row)} negatives, the lines above have {len(rows[0])}",
                "give all the same number",
            )
        rows.append(row)
    if len(rows) < len(testing.users):
        user = testing.users[len(rows)]
        raise CestaError(
            f"{path} ends after {len(rows)} of the {len(testing.users)} users in {test.name}: no negatives "
            f"for user {user}; take both files from one split"
        )
    return np.array(rows, np.int64)


def _repeats(rows: Rows) -> NDArray[np.bool_]:
    """(m, k) marks the values that stand further left in the same row."""
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, 1)
    marks = np.zeros(rows.shape, bool)
    np.put_along_axis(marks, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], 1)
    return marks


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank with their numbers from 1; a file named .gz is unpacked."""
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


def _read_pair(path: Path, line: int, text: str) -> tuple[int, int]:
    """ "(4,12)" → 4, 12"""
    user, comma, item = text.strip().removeprefix("(").removesuffix(")").partition(",")
    if not comma or not text.startswith("("):
        raise _format_error(
            path, line, f'it starts with "{text[:40]}"', "write (user,item), a tab, then the negatives"
        )
    return _read_id(path, line, "user", user), _read_id(path, line, "item", item)


def _read_id(path: Path, line: int, what: str, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = LARGEST
    if not -LARGEST < value < LARGEST:
        raise _format_error(
            path, line, f'{what} "{text[:40]}" is not a number', "give numbers, without a header"
        )
    return value


def _read_number(path: Path, line: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise _format_error(
            path, line, f'"{text[:40]}" is not a number', "give numbers for ratings and time stamps"
        )
    return value


def _first_duplicate(values: Rows) -> int | None:
    """The place of the first value that occurs before it."""
    _, first = np.unique(values, return_index=True)
    later = np.setdiff1d(np.arange(len(values)), first)
    return int(later[0]) if len(later) else None


def _columns(n: int) -> str:
    return f"{n} column" if n == 1 else f"{n} columns"


def _format_error(path: Path, line: int, what: str, way_out: str) -> CestaError:
    return CestaError(f"{path}, line {line}: {what}; {way_out}")
