"""Dates as shops write them: each is read rightly, or refused with a row, its value and the way out."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.building.etl_command import run_on_texts

MORNING = "2024-01-31T10:30:00"

ONE_WAY = {
    "2024-01-31": "2024-01-31T00:00:00",
    "2024-01-31T10:30:00Z": MORNING,
    "2024-01-31 10:30:00 UTC": MORNING,
    "2024-01-31 10:30:00.123456789": MORNING,
    "2024-01-31 10:30:00,5": MORNING,
    "2024-01-31T12:30:00+02:00": MORNING,
    "2024-01-31 05:00 -0530": MORNING,
    "2024-01-31T11:30:00+01:00[Europe/Paris]": MORNING,
    "2024-01-31 11:30 Europe/Berlin": MORNING,
    "2024-01-31 12:30:00 GMT+2": MORNING,
    "2024-1-31 10:30": MORNING,
    "2024/01/31 10.30": MORNING,
    "2024.01.31 10:30": MORNING,
    "2024-01-31-10.30.00.000000": MORNING,
    "20240131T103000Z": MORNING,
    "20240131 1030": MORNING,
    "2024-W05-3 10:30": MORNING,
    "2024W053": "2024-01-31T00:00:00",
    "2024-031": "2024-01-31T00:00:00",
    "2024-01-31 24:00": "2024-02-01T00:00:00",
    "2016-12-31 23:59:60": "2017-01-01T00:00:00",
    "31-JAN-24 10.30.00.000000 AM": MORNING,
    "15-Jan-24": "2024-01-15T00:00:00",
    "31 Jan 2024 10:30": MORNING,
    "Jan 31, 2024 10:30 AM": MORNING,
    "Jan 31 2024 10:30AM": MORNING,
    "January 31st, 2024 at 10:30 a.m.": MORNING,
    "2024-Jan-31": "2024-01-31T00:00:00",
    "31/Jan/2024:10:30:00 +0000": MORNING,
    "Wed, 31 Jan 2024 11:30:00 +0100": MORNING,
    "2024-01-31 11:30 CET": MORNING,
    "2024-07-01 11:30 CEST": "2024-07-01T09:30:00",
    "Wed Jan 31 11:30:00 CET 2024": MORNING,
    "2024-01-31 05:30 America/New_York": MORNING,
    "2024-01-31 05:30 America/Port-au-Prince": MORNING,
    "2024-01-31 05:30 Etc/GMT+5": MORNING,
    "2024-01-31 11:30 europe/berlin": MORNING,
    "2024-01-31 10:30 UT": MORNING,
    "2024\u201001\u201031 - 10:30": MORNING,
    "'2024-01-31 10:30": MORNING,
    '=""2024-01-31 10:30""': MORNING,
    "2024-01-31 10:30\x00": MORNING,
    "Wed Jan 31 10:30:00 2024": MORNING,
    "Wed Jan 31 10:30:00 UTC 2024": MORNING,
    "Wed Jan 31 2024 11:30:00 GMT+0100 (Central European Standard Time)": MORNING,
}
THREE_NUMBERS = {
    "240131 1030": MORNING,
    "31/01/2024 10:30": MORNING,
    "01/31/2024 10:30 AM": MORNING,
    "1/31/2024 10:30:00 a.m.": MORNING,
    "\u200e1\u200e/\u200e31\u200e/\u200e2024 10:30\u202fAM": MORNING,
    "01/31/2024 12:05 AM": "2024-01-31T00:05:00",
    "01/31/2024 12:05 PM": "2024-01-31T12:05:00",
    "31.01.2024 10:30:00": MORNING,
    "31. 1. 2024": "2024-01-31T00:00:00",
    "31012024 10:30": MORNING,
    "31/01/24 10:30": MORNING,
    "01/31/24 10:30": MORNING,
    "24/01/31 10:30": MORNING,
}


def test_dates_that_read_one_way_are_read_whatever_their_neighbours_are(tmp_path: Path) -> None:
    """Zones are converted, and a time without one counts as UTC."""
    times = run_on_texts(tmp_path, list(ONE_WAY)).times
    assert dict(zip(ONE_WAY, times, strict=True)) == ONE_WAY


@pytest.mark.parametrize(("text", "time"), THREE_NUMBERS.items())
def test_three_numbers_of_which_one_order_is_a_date_are_read(tmp_path: Path, text: str, time: str) -> None:
    """The 31st is no month, and 2031 is still to come."""
    assert run_on_texts(tmp_path, [text]).times == [time]


UNREADABLE = (
    "31. Januar 2024",
    "2024-02-30",
    "29/02/2023",
    "2024-13-01",
    "2023-366",
    "2021-W53-1",
    "2024-01-01 25:00",
    "2024-01-01 13:05 PM",
    "2016-12-31 12:30:60",
    "2023-10-29 02:30 Europe/Berlin",  # comes twice
    "2024-01-31 10:30 CST",  # three zones have this name
    "2024-01-31 10:30 Moon/Crater",
    "2024-01-31 10:30 (CET)",
    "2024-01-31 10:30 [Europe/Berlin]",
    "2024-01-31T10:30+15:00",
    "31/01/64",
    "0000-00-00 00:00:00",
    "infinity",
    "12:30:00",
    "yesterday",
    "",
    "1.70407E+09",  # as a spreadsheet shows 1704067200
    "1,704,067,200",
)


@pytest.mark.parametrize("text", UNREADABLE)
def test_a_cell_without_a_clear_time_is_refused(tmp_path: Path, text: str) -> None:
    """The other receipts are fine, so that the row itself is named."""
    said = run_on_texts(tmp_path, ["2024-01-31 10:30", "2024-01-30 10:30", text]).said
    assert 'sales.csv: column "timestamp" holds no readable time (2 rows)' in said
    cell = f'"{text}"' if text else "(empty)"
    assert f"row 6: {cell}\n" in said
    assert "[data] timestamp_format" in said


@pytest.mark.parametrize("text", ["1989-12-31", "0001-01-01", "2100-01-01", "9999-12-31"])
def test_a_date_of_another_century_is_refused(tmp_path: Path, text: str) -> None:
    """Such dates stand for "unknown" or "for ever"."""
    said = run_on_texts(tmp_path, ["2024-01-31", text]).said
    assert "is before 1990 or after 2099, the first is read as" in said
    assert f'row 4: "{text}"' in said


ORDERS = {
    "a day above 12 decides": (["03/04/2024", "25/04/2024"], ["2024-04-03", "2024-04-25"]),
    "a month is never above 12": (["04/03/2024", "04/25/2024"], ["2024-04-03", "2024-04-25"]),
    "the first date shows nothing": (
        ["01/02/2020 10:00:00", "31/01/2020 20:20:39"],
        ["2020-02-01", "2020-01-31"],
    ),
    "two digits, day first": (
        ["13/01/24", "14/01/24", "05/02/24"],
        ["2024-01-13", "2024-01-14", "2024-02-05"],
    ),
    "two digits, month first": (
        ["01/13/24", "01/14/24", "02/05/24"],
        ["2024-01-13", "2024-01-14", "2024-02-05"],
    ),
    "two digits, year first": (
        ["24/01/13", "24/01/14", "24/02/05"],
        ["2024-01-13", "2024-01-14", "2024-02-05"],
    ),
    "two digits beside four": (["1/31/24", "2/5/2024"], ["2024-01-31", "2024-02-05"]),
    "several forms": (["2024-01-31", "5 Feb 2024", "13/02/2024"], ["2024-01-31", "2024-02-05", "2024-02-13"]),
    "offsets of summer and winter": (
        ["2024-03-31T01:30+01:00", "2024-03-31T03:30+02:00"],
        ["2024-03-31"] * 2,
    ),
}


@pytest.mark.parametrize(("texts", "days"), ORDERS.values(), ids=ORDERS.keys())
def test_the_whole_column_decides_the_order(tmp_path: Path, texts: list[str], days: list[str]) -> None:
    """One clear date is enough, wherever it is."""
    assert [time[:10] for time in run_on_texts(tmp_path, texts).times] == days


AMBIGUOUS = {
    "03/04/2024": ("day first as well as month first", "2024-04-03 00:00:00 or 2024-03-04 00:00:00"),
    "05/06/2064": ("day first as well as month first", "2064-06-05 00:00:00 or 2064-05-06 00:00:00"),
    "25/12/24": ("day first as well as year first", "2024-12-25 00:00:00 or 2025-12-24 00:00:00"),
    "03/04/24": (
        "day first, month first as well as year first",
        "2024-04-03 00:00:00 or 2024-03-04 00:00:00 or ",
    ),
}


@pytest.mark.parametrize(("text", "readings"), AMBIGUOUS.items())
def test_dates_that_read_several_ways_are_refused_until_a_format_is_set(
    tmp_path: Path, text: str, readings: tuple[str, str]
) -> None:
    """A guess would silently swap April and March."""
    said = run_on_texts(tmp_path, ["2024-01-31", text]).said
    order, times = readings
    assert f'column "timestamp" reads {order}; the first row is {times}' in said
    assert f'(2 rows)\n      row 4: "{text}"' in said
    assert 'timestamp_format = "%d/%m/%Y"' in said
    chosen = "%d/%m/%Y" if len(text) == 10 else "%d/%m/%y"
    day, month, year = text.split("/")
    times_read = run_on_texts(tmp_path, [text], timestamp_format=chosen).times
    assert times_read == [f"20{year[-2:]}-{month}-{day}T00:00:00"]


@pytest.mark.parametrize("written_as", ["%-d/%m/%Y", "%Q", "%d %d", "%", "unix-ms", "days since 2024-13-01"])
def test_a_format_that_cannot_be_used_is_named(tmp_path: Path, written_as: str) -> None:
    """Only strftime and a shell's date know %-d."""
    said = run_on_texts(tmp_path, ["2024-01-31"], timestamp_format=written_as).said
    assert (
        f'1 problem in the input\n  sales.csv: [data] timestamp_format "{written_as}" cannot be used' in said
    )
    assert "way out: use strptime directives" in said
    assert "unix_ms" in said


def test_receipts_in_the_future_are_named_in_a_warning(tmp_path: Path) -> None:
    """They are kept: the shop may know why."""
    texts = ["2024-01-31 10:30", "2064-01-01 10:30", "2064-03-04 10:30", "2064-02-01 10:30"]
    done = run_on_texts(tmp_path, texts)
    future = [warning for warning in done.warnings if "future" in warning]
    last = 'the last receipt is "2" of 2064-03-04T10:30:00Z'
    assert future == [f"3 of 4 baskets are in the future, {last}: are the dates right?"]
    assert len(done.times) == 4


def test_a_local_time_of_today_is_not_in_the_future(tmp_path: Path) -> None:
    """A time without a zone may be up to 14 hours ahead of UTC."""
    ahead = datetime.now(UTC) + timedelta(hours=14)
    done = run_on_texts(tmp_path, [ahead.strftime("%Y-%m-%d %H:%M:%S")])
    assert not [warning for warning in done.warnings if "future" in warning]
