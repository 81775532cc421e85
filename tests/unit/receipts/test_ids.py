"""Ids as files hold them: each id as the shop knows it, or a refusal."""

from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.building.id_columns import HEADER, run_etl, run_on_array, run_on_csv, run_on_users

READ = {
    "a formula keeps zeros": (['="007"', "008"], ["007", "008"]),
    "the formula as csv quotes it": (['"=""007"""', "008"], ["007", "008"]),
    "an apostrophe keeps zeros": (["'007", "8"], ["007", "8"]),
    "a grave accent keeps zeros": (["`007", "`008"], ["007", "008"]),
    "a typographic apostrophe": (["\u2019007", "A1"], ["007", "A1"]),
    "typographic quotes": (["\u201c007\u201d", "\u201e8\u201c"], ["007", "8"]),
    "an apostrophe before each": (["'A1", "'B2"], ["A1", "B2"]),
    "apostrophes as quotes": (["'007'", "'8'"], ["007", "8"]),
    "an apostrophe of a name": (["'t Hooft", "Vermeer"], ["'t Hooft", "Vermeer"]),
    "a blank before the quote": ([' "007"', ' "8"\t'], ["007", "8"]),
    "quotes within quotes": ([' "a""b" ', "c"], ['a"b', "c"]),
    "quotes within an id": (['5" pipe', '"""A"" and ""B"""'], ['"A" and "B"', '5" pipe']),
    "zero-width letters": (["007\u200b", "007"], ["007"]),
    "a byte order mark": (["\ufeff007", "007"], ["007"]),
    "marks of direction": (["\u202a007\u202c", "007\u200e"], ["007"]),
    "a soft hyphen, a filler": (["007\u00ad", "007\u3164"], ["007"]),
    "padding with zero bytes": (["007\0\0", "007"], ["007"]),
    "joiners within words": (
        ["\u0645\u06cc\u200c\u062e\u0648", "👨\u200d👩"],
        ["\u0645\u06cc\u200c\u062e\u0648", "👨\u200d👩"],
    ),
    "a joiner that a word ends with": (["\u0d28\u0d4d\u200d", "x"], ["x", "\u0d28\u0d4d\u200d"]),
    "emoji that end with a selector or a tag": (
        ["❤\ufe0f", "🏴\U000e0067\U000e007f", "🏴\U000e0073\U000e007f"],
        ["❤\ufe0f", "🏴\U000e0067\U000e007f", "🏴\U000e0073\U000e007f"],
    ),
    "one Unicode form, whichever": (["cre\u0300me", "x"], ["cre\u0300me", "x"]),
    "only floats": (["101.0", "102.00", ""], ["101", "102"]),
    "versions": (["1.0", "1.5"], ["1.0", "1.5"]),
    "zeros and capitals": (["007", "7", "a", "A"], ["007", "7", "A", "a"]),
    "letters and digits": (["4E12", "1E5"], ["1E5", "4E12"]),
    "no error of a spreadsheet": (["#1!", "#hash", "Err:12"], ["#1!", "#hash", "Err:12"]),
}


@pytest.mark.parametrize(("cells", "users"), READ.values(), ids=READ.keys())
def test_an_id_is_what_the_cell_means(tmp_path: Path, cells: list[str], users: list[str]) -> None:
    """Nothing is said about it."""
    outcome = run_on_users(tmp_path, cells)
    assert outcome.users == sorted(users)
    assert outcome.warnings == []


ERRORS = ["#REF!", "#N/A", "#VALUE!", "#NAME?", "#DIV/0!", "#NUM!", "#NULL!", "#SPILL!", "#CALC!"]
ERRORS += [
    "#GETTING_DATA",
    "#FIELD!",
    "#ERROR!",
    "#N/A N/A",
    "#BEZUG!",
    "#¡REF!",
    "#NV",
    "#\u041d/\u0414",
    "Err:502",
    "#####",
]
WORDS = [
    "NULL",
    "null",
    "[NULL]",
    "(null)",
    "<null>",
    "NaN",
    "nan",
    "NaT",
    "None",
    "<NA>",
    "n/a",
    "undefined",
    "\\N",
]


@pytest.mark.parametrize("cell", [*ERRORS, *WORDS, "\u200b", " "])
def test_an_error_or_a_word_for_nothing_is_an_empty_cell(tmp_path: Path, cell: str) -> None:
    """A receipt without its user is one of an unknown customer; without its item it is refused."""
    assert run_on_csv(tmp_path, f"{HEADER}{cell},b,x\n,b,y\nu,c,x\n").users == ["u"]
    said = run_on_csv(tmp_path, f"basket_id,item_id\nb,{cell}\nb,x\n").said
    assert 'column "item_id" is empty (1 row)' in said
    assert "row 2: " in said


def test_an_error_is_empty_whatever_the_settings_call_empty(tmp_path: Path) -> None:
    assert run_on_users(tmp_path, ["#REF!", "guest", "u"], missing='["guest"]').users == ["u"]


def test_whole_numbers_with_and_without_a_point_are_one_id(tmp_path: Path) -> None:
    """One part of the file went through a float column."""
    outcome = run_on_users(tmp_path, ["100.0", "101.0", "100", "101", "GUEST"])
    assert outcome.users == ["100", "101", "GUEST"]
    (warning,) = outcome.warnings
    assert all(word in warning for word in ('"user_id"', "4 rows", "row 2", '"100.0"')), warning


@pytest.mark.parametrize("cells", [["100,0", "101"], ["100,00", "101,00", "101"]])
def test_a_decimal_comma_and_zeros_are_no_part_of_an_id(tmp_path: Path, cells: list[str]) -> None:
    """A German program writes floats like that."""
    outcome = run_on_users(tmp_path, [f'"{cell}"' for cell in cells])
    assert outcome.users == ["100", "101"]
    assert len(outcome.warnings) == 1


def test_thousands_are_no_floats(tmp_path: Path) -> None:
    assert run_on_users(tmp_path, ['"1,000"', "1"]).users == ["1", "1,000"]


def test_ids_may_be_times_of_a_zone_that_this_machine_does_not_know(tmp_path: Path) -> None:
    moments = pa.array([0, 1_700_000_000_000_000], pa.timestamp("us", "Mars/Base"))
    assert run_on_array(tmp_path, moments).users[0].startswith("1970-01-01 00:00:00")


def test_a_point_that_may_be_part_of_the_id_is_told(tmp_path: Path) -> None:
    outcome = run_on_users(tmp_path, ["1.0", "1.5", "1"])
    assert outcome.users == ["1", "1.0", "1.5"]
    (warning,) = outcome.warnings
    assert all(word in warning for word in ('with and without ".0"', "stay different", '"1.0"')), warning


TWINS = {
    "composed and decomposed": (["cr\u00e8me", "cre\u0300me"], '"cre\\u0300me"'),
    "a byte order mark within": (["ab", "a\ufeffb"], '"a\\ufeffb"'),
    "a no-break space within": (["a b", "a\u00a0b"], '"a\\xa0b"'),
    "two blanks": (["a b", "a  b"], '"a  b"'),
    "a variation selector": (["7", "7\ufe0f"], '"7\\ufe0f"'),
    "an apostrophe": (["A1", "'A1"], '"\'A1"'),
}


@pytest.mark.parametrize(("cells", "shown"), TWINS.values(), ids=TWINS.keys())
def test_ids_that_look_alike_are_refused(tmp_path: Path, cells: list[str], shown: str) -> None:
    """Nobody sees that they are two customers."""
    said = run_on_users(tmp_path, cells).said
    assert all(word in said for word in ('"user_id" has ids that look like another', shown, "NFC")), said


@pytest.mark.parametrize(
    "cell", ["4.00638E+12", "4,00638E+12", "4e+12", "4.006381333931E12", "40.0E+11", "-4E+12"]
)
def test_scientific_notation_is_refused(tmp_path: Path, cell: str) -> None:
    said = run_on_csv(tmp_path, f"basket_id;item_id\nb;{cell}\nb;x\n").said
    assert all(word in said for word in ('"item_id"', "last digits are lost (1 row)", f'row 2: "{cell}"')), (
        said
    )


LARGE = 2**63 + 12345
NOT_UTF8 = pa.Array.from_buffers(
    pa.string(), 2, [None, pa.array([0, 4, 5], pa.int32()).buffers()[1], pa.py_buffer(b"caf\xe9b")]
)
TYPES = {
    "uint64": (pa.array([LARGE, 5], pa.uint64()), [str(LARGE), "5"]),
    "int8": (pa.array([-3, 5], pa.int8()), ["-3", "5"]),
    "double": (pa.array([101.0, None, float("nan")]), ["101"]),
    "halffloat": (pa.array(np.array([7, 8], np.float16)), ["7", "8"]),
    "decimal of 60 digits": (pa.array([Decimal(10) ** 59, None], pa.decimal256(70, 0)), ["1" + 59 * "0"]),
    "decimal with point": (pa.array([Decimal("101.00"), Decimal("7.00")]), ["101", "7"]),
    "small decimal": (
        pa.array([Decimal("1E-8"), Decimal(1)], pa.decimal128(20, 8)),
        ["0.00000001", "1.00000000"],
    ),
    "decimal32": (pa.array([Decimal("1"), Decimal("2")], pa.decimal32(5, 0)), ["1", "2"]),
    "string_view": (pa.array(["a ", "\u200bb"], pa.string_view()), ["a", "b"]),
    "large_string": (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
    "binary_view": (pa.array([b"a", b"b"], pa.binary_view()), ["a", "b"]),
    "fixed_size_binary": (pa.array([b"a\0", b"bb"], pa.binary(2)), ["a", "bb"]),
    "dictionary of text": (pa.array(["a ", " a", "b"]).dictionary_encode(), ["a", "b"]),
    "dictionary of int": (pa.array([5, 6]).dictionary_encode(), ["5", "6"]),
    "dictionary of double": (pa.array([5.0, 6.0]).dictionary_encode(), ["5", "6"]),
    "date": (pa.array([0, 1], pa.int32()).view(pa.date32()), ["1970-01-01", "1970-01-02"]),
    "null": (pa.nulls(2), []),
}


@pytest.mark.parametrize(("column", "users"), TYPES.values(), ids=TYPES.keys())
def test_ids_of_every_type_are_text(tmp_path: Path, column: pa.Array, users: list[str]) -> None:
    outcome = run_on_array(tmp_path, column)
    assert not outcome.refused, outcome.said
    assert outcome.users == sorted(users)


REFUSED = {
    "fractions": (pa.array([101.5, 3.0]), ["double column: its values are no ids (2 rows)", "row 1: 101.5"]),
    "infinity": (pa.array([1.0, -np.inf]), ["double column", "(2 rows)", "row 3: -inf"]),
    "truth values": (
        pa.array([True, False]),
        ["bool column of truth values, which are no ids (4 rows)", "row 1: True"],
    ),
    "truth values as text": (pa.array(["true", "FALSE"]), ["text column of truth values", '"FALSE"']),
    "formulas": (pa.array(['=T("007")', "8"]), ["has formulas (2 rows)", "as text"]),
    "a line break": (pa.array(["a\nb", "8"]), ["line breaks or control characters within ids (2 rows)"]),
    "a rounded number with point": (
        pa.array(["9007199254740992.0", "8.0"]),
        ["a float column rounded: last digits are lost (2 rows)", '"9007199254740992.0"'],
    ),
    "no day": (
        pa.array([0, 2**31 - 1], pa.int32()).view(pa.date32()),
        ["no calendar has (2 rows)", "row 3: "],
    ),
    "no moment": (pa.array([0, -(2**63)], pa.timestamp("us")), ["no calendar has (2 rows)", "row 3: "]),
    "no time": (pa.array([0, 2**63 - 1]).view(pa.time64("us")), ["no calendar has (2 rows)", "row 3: "]),
    "bytes": (pa.array([b"a", b"\xff"], pa.binary_view()), ["not valid UTF-8 (2 rows)", r'row 3: "\xff"']),
    "text that is none": (NOT_UTF8, ["not valid UTF-8 (2 rows)", r'row 1: "caf\xe9"']),
    "a dictionary of it": (NOT_UTF8.dictionary_encode(), ["not valid UTF-8 (2 rows)", r'row 1: "caf\xe9"']),
    "a list": (pa.array([["a"], ["b"]]), ["list<element: string> values", "flatten it"]),
    "a list_view": (pa.array([["a"], ["b"]], pa.list_view(pa.string())), ["list_view", "flatten it"]),
    "a struct": (pa.array([{"a": 1}, {"a": 2}]), ["struct<a: int64> values", "flatten it"]),
    "a map": (
        pa.array([[("a", 1)], [("b", 1)]], pa.map_(pa.string(), pa.int8())),
        ["map<string", "flatten it"],
    ),
}


@pytest.mark.parametrize(("column", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_values_that_are_no_ids_are_refused(tmp_path: Path, column: pa.Array, words: list[str]) -> None:
    outcome = run_on_array(tmp_path, column)
    assert outcome.refused
    assert all(word in outcome.said for word in ['column "user_id"', *words, "way out"]), outcome.said


def test_items_in_another_spelling_than_the_products_are_told(tmp_path: Path) -> None:
    """A spreadsheet opened one of the tables and took the zeros away."""
    (tmp_path / "items.csv").write_text("item_id,name\n7,Tea\n8,Jam\n9,Oil\n", encoding="utf-8")
    (tmp_path / "sales.csv").write_text("basket_id,item_id\nb,007\nb,8\nb,9\n", encoding="utf-8")
    outcome = run_etl(tmp_path / "sales.csv", tmp_path / "items.csv")
    words = '1 of 3 sold items are not in the products table, e.g. "007", which is listed as "7"'
    assert outcome.warnings[0].startswith(words)
