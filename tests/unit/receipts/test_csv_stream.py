"""A csv is read in blocks: where a block ends does not show."""

import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export_scripts.receipts.problems import Problems
from export_scripts.receipts.reading import csv_rows, csv_text, quotes
from export_scripts.receipts.reading.opening import open_source
from export_scripts.receipts.reading.source import Source, Unreadable

CELLS = ("1", "é", "🧀", '"a,b"', '"two\nlines"', '"7"" nail"', '7" nail', "")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of at most 64 bytes, pieces of at least 16."""
    monkeypatch.setattr(csv_rows, "LONGEST_ROW", 64)
    monkeypatch.setattr(quotes, "LONGEST_ROW", 64)
    monkeypatch.setattr(csv_text, "HEAD", 16)


def opened(folder: Path, text: str | bytes) -> tuple[Source, Problems]:
    path, problems = folder / "sales.csv", Problems()
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    source = open_source(path, problems)
    assert source, problems.collected
    return source, problems


def rows_of(source: Source, problems: Problems) -> list[tuple[object, ...]]:
    """The number and the cells of each row."""
    return [
        (number, *row.values())
        for batch, numbers in source.record_batches(problems)
        for number, row in zip(numbers.tolist(), batch.to_pylist(), strict=True)
    ]


@given(st.lists(st.lists(st.sampled_from(CELLS), min_size=1, max_size=4), max_size=40))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_small_blocks_give_the_rows_of_large_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[list[str]]
) -> None:
    """Rows, their numbers, and what is said of ragged rows. A block may end within a cell or a character."""
    text = "\n".join(["a,b,c", "x,y,z", *map(",".join, lines)]) + "\n"
    whole, said = opened(tmp_path, text)
    expected = rows_of(whole, said)
    with monkeypatch.context() as patched:
        patched.setattr(csv_rows, "LONGEST_ROW", 64)
        patched.setattr(quotes, "LONGEST_ROW", 64)
        patched.setattr(csv_text, "HEAD", 16)
        parts, also_said = opened(tmp_path, text)
        assert rows_of(parts, also_said) == expected
    assert (also_said.collected, also_said.warnings) == (said.collected, said.warnings)


def test_rows_keep_their_numbers_behind_broken_blocks(tmp_path: Path, small_blocks: None) -> None:
    """A hundred blank rows fill blocks of their own."""
    source, problems = opened(tmp_path, "a,b\n1,2\n" + "\n" * 100 + "lonely\n" + "3,4\na,b\n5,6\n")
    assert rows_of(source, problems) == [(2, "1", "2"), (104, "3", "4"), (106, "5", "6")]
    assert problems.warnings == ["sales.csv: 1 row repeats the header and is passed over (row 105)"]
    (problem,) = problems.collected
    assert (problem.rows, problem.count) == (((103, '1 cells: "lonely"'),), 1)


def test_bytes_that_are_not_utf8_are_found_in_any_block(tmp_path: Path, small_blocks: None) -> None:
    """The last byte of a block is the first one of a character, and the next block does not go on with it."""
    source, problems = opened(tmp_path, b"a,b\n" + b"1,2\n" * 30 + b"caf\xc3,1\n" + "é,2\n".encode() * 30)
    rows = rows_of(source, problems)
    assert source.repaired
    assert [row[1] for row in rows] == ["1"] * 30 + ["caf\ufffd"] + ["é"] * 30


def test_a_file_that_is_utf8_is_not_called_repaired(tmp_path: Path, small_blocks: None) -> None:
    """The value holds the sign that stands for broken bytes elsewhere."""
    source, problems = opened(tmp_path, "a,b\n" + "\ufffd🧀,é\n" * 50)
    assert len(rows_of(source, problems)) == 50
    assert not source.repaired


def test_a_quote_that_never_closes_has_its_line_behind_many_blocks(
    tmp_path: Path, small_blocks: None
) -> None:
    source, problems = opened(tmp_path, "a,b\n" + '"1",2\n' * 40 + '"1,2\n' + "1,2\n" * 40)
    with pytest.raises(Unreadable):
        rows_of(source, problems)
    (problem,) = problems.collected
    assert "quotes that do not match in the row of line 42" in problem.what


def test_a_row_that_is_longer_than_a_block_is_refused(tmp_path: Path) -> None:
    """The sentence has the limit, since no quote is the cause."""
    source, problems = opened(tmp_path, "a,b\n1,2\n" + "x" * (1 << 23) + ",2\n")
    with pytest.raises(Unreadable):
        rows_of(source, problems)
    assert "a row has over 4 MiB" in problems.collected[0].what


def test_half_a_packed_file_is_refused_after_its_first_rows(tmp_path: Path) -> None:
    whole = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(100_000)))
    source, problems = opened(tmp_path, whole[: len(whole) // 2])
    with pytest.raises(Unreadable):
        rows_of(source, problems)
    (problem,) = problems.collected
    assert "the file cannot be read" in problem.what
