"""Row numbers that stay unique over many files: one integer names the file and the row in it."""

from collections.abc import Sequence

ROWS_OF_A_PART = 1 << 40  # no file has more rows; eight million files fit beside them into int64


def first_row(part: int) -> int:
    """Return what to add to the row numbers of the part with this index."""
    return part * ROWS_OF_A_PART


def place(row: int, parts: Sequence[str]) -> int | str:
    """Return a row as a message names it: its number, and the name of its part if they are several."""
    part, number = divmod(row, ROWS_OF_A_PART)
    return number if len(parts) < 2 else f"{number} of {parts[part]}"
