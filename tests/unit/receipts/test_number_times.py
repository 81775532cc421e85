"""Dates that are numbers: read if one unit or order of digits is plausible, refused otherwise."""

from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.building.etl_command import run_etl, run_on_array, run_on_texts

DAY = "2024-01-31T00:00:00"
MORNING = "2024-01-31T10:30:00"
SECONDS = 1_706_697_000  # date -ud "2024-01-31 10:30" +%s
LARGEST, SMALLEST = 2**63 - 1, -(2**63)

WHOLE = {
    20240131: DAY,
    2024013110: "2024-01-31T10:00:00",
    202401311030: MORNING,
    20240131103000: MORNING,
    20240131103000123: MORNING,
    2024031: DAY,
    31012024: DAY,
    1132024: "2024-01-13T00:00:00",  # %m%d%Y without its first zero
    2401311030: MORNING,
    240131103000: MORNING,
    240131: DAY,
    310124: DAY,
    SECONDS: MORNING,
    SECONDS * 1000: MORNING,
    SECONDS * 10**6: MORNING,
    SECONDS * 10**9: MORNING,
    45322: DAY,  # Excel
    2460341: "2024-01-31T12:00:00",  # Julian day
    638422938000000000: MORNING,  # .NET
    133511706000000000: MORNING,  # FILETIME
    20240311030: MORNING,  # %Y%j%H%M
    2024031103000: MORNING,
    31012410: "2024-01-31T10:00:00",  # %d%m%y%H
    19753: DAY,  # days since 1970
}


@pytest.mark.parametrize(("number", "time"), WHOLE.items())
def test_a_number_with_one_plausible_reading_is_read(tmp_path: Path, number: int, time: str) -> None:
    """Text and integers give the same time; so do floats, see below."""
    assert run_on_texts(tmp_path, [str(number)]).times == [time]
    assert run_on_array(tmp_path, pa.array([number])).times == [time]


FRACTIONS = {
    "45322.4375": MORNING,
    "45322,4375": MORNING,
    "2460340.9375": MORNING,
    "1706697000.75": MORNING,
    "1.7066970e+09": MORNING,
    "20240131103000.5": MORNING,
    "20240131": DAY,
    "2401311030": MORNING,
    "1706697000000": MORNING,
}


@pytest.mark.parametrize(("text", "time"), FRACTIONS.items())
def test_fractions_of_days_and_seconds_are_read(tmp_path: Path, text: str, time: str) -> None:
    """A fraction of a second is cut off."""
    assert run_on_texts(tmp_path, [text]).times == [time]
    assert run_on_array(tmp_path, pa.array([float(text.replace(",", "."))])).times == [time]


AMBIGUOUS = {
    1701011030: ['"%y%m%d%H%M"', '"unix_s"', "2017-01-01 10:30:00", "2023-11-26 15:03:50"],
    725846400: ['"unix_s"', '"cocoa"', "1993-01-01 00:00:00", "2024-01-02 00:00:00"],
    20089: ['"%y%j"', '"days since 1970-01-01"', "2020-03-29 00:00:00", "2025-01-01 00:00:00"],
    5012024: ['"%d%m%Y"', '"%m%d%Y"', "2024-01-05 00:00:00", "2024-05-01 00:00:00"],
    250124: ['"%y%m%d"', '"%d%m%y"', "2025-01-24 00:00:00", "2024-01-25 00:00:00"],
    757382400: ['"unix_s"', '"cocoa"', '"seconds since 2000-01-01"', "1994-01-01 00:00:00"],
    757382400000000: ['"unix_us"', '"microseconds since 2000-01-01"', "1994-01-01", "2024-01-01"],
    3101202310: ['"%d%m%y%H%M"', '"%d%m%Y%H"', "2020-01-31 23:10:00", "2023-01-31 10:00:00"],
    1240131103000: ['"unix_ms"', '"1%y%m%d%H%M%S"', "2009-04-19", "2024-01-31 10:30:00"],
    201001: ['"%y%m%d"', '"%d%m%y"', '"%Y%m"', "2020-10-01 00:00:00", "2010-01-01 00:00:00"],
    201201011030: ['"%Y%m%d%H%M"', '"%y%m%d%H%M%S"', "2012-01-01 10:30:00", "2020-12-01 01:10:30"],
}


@pytest.mark.parametrize(("number", "words"), AMBIGUOUS.items())
def test_a_number_with_two_plausible_readings_is_refused(
    tmp_path: Path, number: int, words: list[str]
) -> None:
    """Both readings and the setting that chooses between them are named."""
    for done in (run_on_texts(tmp_path, [str(number)]), run_on_array(tmp_path, pa.array([number]))):
        assert "as well as" in done.said
        assert "[data] timestamp_format = " in done.said
        assert "(2 rows)" in done.said
        assert str(number) in done.said
        assert all(word in done.said for word in words), done.said


def test_one_bad_row_does_not_make_another_century_of_the_others(tmp_path: Path) -> None:
    """The digits of 2017 are also seconds of 2023, even if the minute 60 is none."""
    done = run_on_array(tmp_path, pa.array([1701011030 + 10_000 * day for day in range(4)] + [1701011060]))
    assert 'reads "unix_s" as well as "%y%m%d%H%M"' in done.said


def test_digits_that_all_end_like_a_clock_are_no_seconds(tmp_path: Path) -> None:
    """Twenty days of 2017 are no seconds of 2023."""
    done = run_on_array(tmp_path, pa.array([1701011030 + 10_000 * day + 17 * (day % 2) for day in range(20)]))
    assert done.times[:2] == ["2017-01-01T10:30:00", "2017-01-02T10:47:00"]


CLOCKS = {
    "AS/400": "1{:%y%m%d%H%M%S}",
    "AS/400 with milliseconds": "1{:%y%m%d%H%M%S}000",
    "day of the year, hour and minute": "{:%y%j%H%M}",
    "JD Edwards, hour and minute": "1{:%y%j%H%M}",
    "day of the year and hour": "{:%Y%j%H}",
    "day and month, hundredths": "{:%d%m%y%H%M%S}00",
}


@pytest.mark.parametrize("written_as", CLOCKS.values(), ids=CLOCKS.keys())
def test_numbers_that_end_like_a_clock_are_no_units_since_an_epoch(tmp_path: Path, written_as: str) -> None:
    """The first would be a day of 2009 in Unix time."""
    start = datetime(2024, 1, 3, 9, 41, 7)
    texts = [written_as.format(start + timedelta(hours=29, minutes=17, seconds=13) * n) for n in range(40)]
    done = run_on_texts(tmp_path, texts)
    assert not done.times
    assert "(80 rows)" in done.said
    assert "timestamp_format" in done.said


def test_the_same_day_of_two_years_is_no_day_after_the_other(tmp_path: Path) -> None:
    """021124 and 021125 are two Novembers, or two days of 2002."""
    for texts in (["02/11/24", "02/11/25"], ["021124", "021125"]):
        assert "as well as" in run_on_texts(tmp_path, texts).said


def test_the_days_of_a_month_are_not_years(tmp_path: Path) -> None:
    """240101, 240102, … is a January and not the 24th of many years."""
    days = run_on_texts(tmp_path, [f"2401{day:02}" for day in range(1, 13)]).times
    assert days == [f"2024-01-{day:02}T00:00:00" for day in range(1, 13)]


# Counters look like minutes and hours since 1970 and like seconds since 2001.
NOTHING = [0, -1, 17, 2000000000, 3787000000, 24031, 500000000, 28444950, 474082, LARGEST, SMALLEST]


@pytest.mark.parametrize("number", NOTHING)
def test_a_number_that_fits_nothing_is_refused(tmp_path: Path, number: int) -> None:
    """The names of all units are given."""
    for done in (run_on_texts(tmp_path, [str(number)]), run_on_array(tmp_path, pa.array([number]))):
        assert (
            "holds numbers that are no plausible times in any unit or order of digits (2 rows)" in done.said
        )
        assert str(number) in done.said
        assert "unix_ms" in done.said


NAMED = [
    ("unix_s", 725846400, "1993-01-01T00:00:00"),
    ("cocoa", 725846400, "2024-01-02T00:00:00"),
    ("unix_s", 1701011030, "2023-11-26T15:03:50"),
    ("%y%m%d%H%M", 1701011030, "2017-01-01T10:30:00"),
    ("unix_s", 1900000000, "2030-03-17T17:46:40"),
    ("%y%j", 24031, DAY),
    ("cocoa", 500000000, "2016-11-05T00:53:20"),
    ("minutes since 1970-01-01", 28444950, MORNING),
    ("hours since 1970-01-01", 474082, "2024-01-31T10:00:00"),
    ("microseconds since 2000-01-01", 757382400000000, "2024-01-01T00:00:00"),
    ("1%y%m%d%H%M%S", 1240131103000, MORNING),
    ("%d%m%Y", 1012024, "2024-01-01T00:00:00"),
    ("excel", 45322, DAY),
    ("excel_1904", 43860, DAY),
    ("days since 1960-01-01", 23406, DAY),
    ("seconds since 1904-01-01", 3789541800, MORNING),
]


@pytest.mark.parametrize(("written_as", "number", "time"), NAMED)
def test_a_unit_and_its_epoch_can_be_named(tmp_path: Path, written_as: str, number: int, time: str) -> None:
    """The name decides what the number alone cannot."""
    for done in (
        run_on_texts(tmp_path, [str(number)], timestamp_format=written_as),
        run_on_array(tmp_path, pa.array([number]), timestamp_format=written_as),
    ):
        assert done.times == [time]


def test_one_wild_number_does_not_change_the_unit_of_the_others(tmp_path: Path) -> None:
    """Only the wild row is reported."""
    said = run_on_texts(tmp_path, [str(SECONDS)] * 9 + ["5"]).said
    assert (
        'column "timestamp" is before 1990 or after 2099, the first is read as 1970-01-01 00:00:05 (2 rows)'
        in said
    )
    assert 'row 20: "5"' in said


def test_a_few_seconds_of_the_future_are_kept_with_a_warning(tmp_path: Path) -> None:
    """The unit is that of the other numbers."""
    done = run_on_texts(tmp_path, [str(SECONDS)] * 3 + ["2900000000"])
    assert done.times[-1] == "2061-11-23T19:33:20"
    assert any("1 of 4 baskets are in the future" in warning for warning in done.warnings)


STORED = [
    pa.array([date(2024, 1, 31)], pa.date32()),
    pa.array([date(2024, 1, 31)], pa.date64()),
    *(
        pa.array([1_706_659_200 * 1000**power]).cast(pa.timestamp(unit))
        for power, unit in enumerate(("s", "ms", "us", "ns"))
    ),
    pa.array([1_706_659_200]).cast(pa.timestamp("s", "Europe/Helsinki")),
    pa.array([1_706_659_200]).cast(pa.timestamp("s")).dictionary_encode(),
    pa.array([Decimal("20240131")]),
    pa.array([20240131], pa.uint32()),
    pa.array(["2024-01-31"]).dictionary_encode(),
    pa.array(["2024-01-31"], pa.large_string()),
    pa.array([b"2024-01-31"]),
]


@pytest.mark.parametrize("times", STORED, ids=lambda times: str(times.type))
def test_every_parquet_type_that_holds_dates_is_read(tmp_path: Path, times: pa.Array) -> None:
    """A zone is only how a program shows the time."""
    assert run_on_array(tmp_path, times).times == [DAY]


def stored(kind: pa.DataType, number: int | None) -> pa.Array:
    width = pa.int32() if kind.bit_width == 32 else pa.int64()
    return pa.array([number], width).cast(kind)


EXTREMES = {
    "last s": (stored(pa.timestamp("s"), LARGEST // 1000), "292278994-08-17T07:12:55.000"),
    "last ms": (stored(pa.timestamp("ms"), LARGEST), "292278994-08-17T07:12:55.807"),
    "infinity": (stored(pa.timestamp("us"), LARGEST), "294247-01-10T04:00:54.775807"),
    "infinity with a zone": (stored(pa.timestamp("us", "UTC"), LARGEST), "294247-01-10T04:00:54.775807"),
    "minus infinity": (stored(pa.timestamp("us"), SMALLEST + 1), "-290308-12-21T19:59:05.224193"),
    "no number": (stored(pa.timestamp("us"), SMALLEST), str(SMALLEST)),
    "last ns": (stored(pa.timestamp("ns"), LARGEST), "2262-04-11T23:47:16.854775807"),
    "last date": (stored(pa.date32(), 2**31 - 1), "5881580-07-11"),
    "first date": (stored(pa.date32(), -(2**31)), "-5877641-06-23"),
    "year 1": (stored(pa.timestamp("us"), -62_135_596_800_000_000), "0001-01-01T00:00:00.000000"),
    "null": (stored(pa.timestamp("us"), None), "(empty)"),
    "time of day": (stored(pa.time32("ms"), 37_800_000), "37800000 ms"),
    "time of day in ns": (stored(pa.time64("ns"), 37_800_000_000_001), "37800000000001 ns"),
    "duration": (stored(pa.duration("us"), LARGEST), f"{LARGEST} us"),
    "boolean": (pa.array([True]), "True"),
    "infinite": (pa.array([float("inf")]), "inf"),
    "not a number": (pa.array([float("nan")]), "nan"),
    "beyond 64 bits": (pa.array([Decimal("9" * 38)]), "9" * 38),
    "float32": (pa.array([20240132.0], pa.float32()), "20240132.0"),
    "null type": (pa.nulls(1), "(empty)"),
    "list": (pa.array([[1]]), "list<"),
}


@pytest.mark.parametrize(("times", "shown"), EXTREMES.values(), ids=EXTREMES.keys())
def test_extreme_values_are_refused_with_their_row(tmp_path: Path, times: pa.Array, shown: str) -> None:
    """Python and pandas have no object for some of them."""
    said = run_on_array(tmp_path, times).said
    assert 'sales.parquet: column "timestamp" ' in said
    assert shown in said
    assert "row 1: " in said or "list<" in said
    assert "way out: " in said


def test_int96_of_the_year_9999_does_not_wrap(tmp_path: Path) -> None:
    """In nanoseconds it would be 1816."""
    never = pa.array([253_402_214_400]).cast(pa.timestamp("s"))
    table = pa.table(
        {"basket_id": ["0", "0"], "item_id": ["a", "b"], "timestamp": never.take(pa.array([0, 0]))}
    )
    path = tmp_path / "sales.parquet"
    pq.write_table(table, path, use_deprecated_int96_timestamps=True)
    assert "row 1: 9999-12-31T00:00:00" in run_etl(path).said
