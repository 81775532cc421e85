"""Quotes that do not match: no row disappears within the value of another one."""

from pathlib import Path

import pytest

from tests.building.id_columns import run_on_csv

HEADER = "user_id,basket_id,item_id,note\n"
ROWS = [f"u{basket},b{basket},{item},n\n" for basket in range(4) for item in "xy"]


def sales(changes: dict[int, str]) -> str:
    """Return a csv of eight rows, some of them written in another way; the header is row 1."""
    return HEADER + "".join(changes.get(row, text) for row, text in enumerate(ROWS, 2))


SWALLOWED = {
    "one row": ({3: 'u0,b0,"y,n\n', 4: 'u1,b1,x",n\n'}, 'row 3: "y,n\\nu1,b1,x"'),
    "two rows": ({3: 'u0,b0,"y,n\n', 5: 'u1,b1,y",n\n'}, 'row 3: "y,n\\nu1,b1,x,n\\nu1,b1,y"'),
    "in the last column": ({3: 'u0,b0,y,"n\n', 4: 'u1,b1,x,n"\n'}, 'row 3: "n\\nu1,b1,x,n"'),
    "in the first column": ({3: '"u0,b0,y,n\n', 4: 'u1",b1,x,n\n'}, 'row 3: "u0,b0,y,n\\nu1"'),
}


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("changes", "shown"), SWALLOWED.values(), ids=SWALLOWED.keys())
def test_two_quotes_that_swallow_rows_are_found(
    tmp_path: Path, changes: dict[int, str], shown: str, ends: str
) -> None:
    """The rows between would be a part of one value."""
    outcome = run_on_csv(tmp_path, sales(changes).replace("\n", ends))
    assert outcome.refused
    assert "rows that are one value (1 row)" in outcome.said
    assert shown.replace("\\n", repr(ends)[1:-1]) in outcome.said
    assert "close each quote" in outcome.said


FINE = {
    "a quote written twice": 'u0,b0,y,"7"" nail"\n',
    "an address": 'u0,b0,y,"Main St 1, 2nd floor\n1234 Town, Land"\n',
    "a quote within plain text": 'u0,b0,y,7" nail\n',
    "text after a quote in a note": 'u0,b0,y,"7" nail\n',
    "a blank after a quote": 'u0,b0,"y" ,"n"\t\n',
    "only quotes": 'u0,b0,y,""""\n',
    "an empty value": 'u0,b0,y,""\n',
}


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("row", FINE.values(), ids=FINE.keys())
def test_quotes_in_place_are_read(tmp_path: Path, row: str, ends: str) -> None:
    outcome = run_on_csv(tmp_path, sales({3: row}).replace("\n", ends))
    assert outcome.items == ["x", "y"]
    assert outcome.baskets == ["b0", "b1", "b2", "b3"]
