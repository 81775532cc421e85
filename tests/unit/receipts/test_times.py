"""The times of receipts: all usual forms become UTC seconds, and ambiguous dates are refused."""

from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from export_scripts.receipts.times import from_text
from tests.building.transactions import GOOD, message, read_columns, read_text

JAN_1 = 1_704_067_200  # 2024-01-01T00:00:00Z, `date -ud 2024-01-01 +%s`


@pytest.mark.parametrize(
    "written",
    [
        "2024-01-01",
        "2024-01-01T00:00:00Z",
        "2024-01-01 01:00:00+01:00",
        "2024-01-01 00:00:00.000",
        "2024-01-01 00:00:00 UTC",
        "2024-1-1",
        "20240101",
        "20240101000000",
        "1704067200",
        "1704067200000",
        "1704067200000000",
        "1704067200.0",
        "01/01/2024",
        "01.01.2024 00:00",
        "Jan 1, 2024",
    ],
)
def test_times_in_any_usual_form_are_utc_seconds(tmp_path: Path, written: str) -> None:
    """Zones are converted, and a time without one is UTC."""
    lines = read_text(tmp_path, f'basket_id;item_id;timestamp\nb;1;"{written}"\nb;2;"{written}"\n')
    assert lines["time"].tolist() == [JAN_1, JAN_1]


@pytest.mark.parametrize(
    "times",
    [
        pa.array([date(2024, 1, 1)]),
        pa.array([JAN_1]),
        pa.array([JAN_1 * 1000.0]),
        pa.array([pd.Timestamp("2024-01-01 02:00", tz="Europe/Helsinki")]),
        pa.array([pd.Timestamp("2024-01-01")], pa.timestamp("ns")),
    ],
)
def test_times_of_any_parquet_type_are_utc_seconds(tmp_path: Path, times: pa.Array) -> None:
    """The result is the same as for csv."""
    assert read_columns(tmp_path, timestamp=times)["time"].tolist() == [JAN_1]


def test_day_first_is_found_when_one_date_shows_it() -> None:
    """The 25th is no month."""
    times = from_text(pd.Series(["03/04/2024", "25/04/2024"], dtype="str"), "")
    assert times is not None
    assert times.dt.month.tolist() == [4, 4]


def test_dates_that_read_both_ways_are_refused_until_a_format_is_set(tmp_path: Path) -> None:
    """A guess would silently swap April and March."""
    text = "basket_id,item_id,timestamp\nb,1,03/04/2024\nb,2,03/04/2024\n"
    report = message(tmp_path, text)
    assert "day first as well as month first" in report
    assert "timestamp_format" in report
    lines = read_text(tmp_path, text, **{"data.timestamp_format": "%d/%m/%Y"})
    assert lines["time"].iloc[0] == pd.Timestamp("2024-04-03").timestamp()


@pytest.mark.parametrize("written_as", ["%-d/%m/%Y", "%Q", "%d %d"])
def test_a_format_that_strptime_refuses_is_named(tmp_path: Path, written_as: str) -> None:
    """Only strftime and a shell's date know %-d."""
    report = message(tmp_path, GOOD, **{"data.timestamp_format": written_as})
    assert f'1 problem in the input\n  sales.csv: [data] timestamp_format "{written_as}" cannot' in report
    assert "way out: use strptime directives" in report


def test_one_wild_number_does_not_change_the_unit_of_the_others(tmp_path: Path) -> None:
    """Only the wild row is reported."""
    rows = "".join(f"b,{i},{JAN_1}\n" for i in range(9))
    report = message(tmp_path, f"basket_id,item_id,timestamp\n{rows}b,9,5\n")
    assert 'column "timestamp" is before 1990' in report
    assert "(1 row)" in report
    assert "row 11" in report
