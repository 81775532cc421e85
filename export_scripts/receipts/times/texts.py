"""Reads times written with separators or names: ISO 8601, numeric dates in any order, English months."""

from __future__ import annotations

from collections.abc import Callable
from zoneinfo import available_timezones

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from export_scripts.receipts.times import calendar
from export_scripts.receipts.times.calendar import Floats, Ints
from export_scripts.receipts.times.readings import Reading, choose

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    r"sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
DAY = r"(?P<d>\d{1,2})(?:st|nd|rd|th)?"
WEEKDAY = r"(?i)^(?:mon|tue|tues|wed|wednes|thu|thur|thurs|fri|sat|satur|sun)(?:day)?[,.]? +"
INVISIBLE = r"[\x{200b}-\x{200f}\x{2060}\x{feff}]"  # some browsers write them into dates
BLANKS = r"[\s\x{a0}\x{2009}\x{202f}]+"  # some put a narrow one before PM
DASHES = r"[\x{2010}-\x{2014}\x{2212}]"
# Wed Jan 31 18:05:00 2024, as C and Java write it: day, clock, zone and then the year.
YEAR_LAST = r"(?i)^([a-z]{3}) (\d{1,2}) (\d\d:\d\d:\d\d)( [a-z]+| [+-]\d+)? (\d{4})$"

CLOCKS = (
    r"[T ,:_]+(?P<h1>\d{1,2}):(?P<m1>\d\d)(?::(?P<s1>\d\d)(?:[.,:]\d+)?)?",
    r"[-T ,:_]+(?P<h2>\d{1,2})\.(?P<m2>\d\d)(?:\.(?P<s2>\d\d)(?:[.,]\d+)?)?",
    r"[-T ,:_]+(?P<h3>\d\d)(?P<m3>\d\d)(?:(?P<s3>\d\d)(?:[.,]\d+)?)?",
    r"[T ,]+(?P<h4>\d{1,2})(?:h(?P<m4>\d\d)?(?P<s4>))?",
)
HALF = r"(?: ?(?P<half>[ap])\.? ?m\b\.?)?"  # America is no AM
# Abbreviations that mean one zone everywhere → hours ahead of UTC. CST, IST, BST and others mean several.
ABBREVIATIONS = {"wet": 0, "west": 1, "cet": 1, "cest": 2, "eet": 2, "eest": 3, "jst": 9}
ABBREVIATIONS |= {"aest": 10, "aedt": 11, "nzst": 12, "nzdt": 13}
ZONE = (
    r"(?: ?(?:z|utc?|gmt|(?:utc|gmt)?(?P<sign>[+-])(?P<zh>\d{1,2})(?::?(?P<zm>\d\d))?|"
    rf"(?P<name>{'|'.join(ABBREVIATIONS)}|[a-z]+/[a-z0-9_/+-]+))(?: ?[\[(][^\])]*[\])])?)?"
)
REST = rf"(?i)^(?:{'|'.join(CLOCKS)})?{HALF}{ZONE} ?$"

DateOf = Callable[[pa.StructArray], Floats]


def _year_month_day(found: pa.StructArray) -> Floats:
    return calendar.midnight(_number(found, "y"), _number(found, "m", 1), _number(found, "d", 1))


def _week_date(found: pa.StructArray) -> Floats:
    return calendar.midnight_of_week(_number(found, "y"), _number(found, "week"), _number(found, "d"))


def _day_of_year(found: pa.StructArray) -> Floats:
    return calendar.midnight_of_day_of_year(_number(found, "y"), _number(found, "d"))


def _named_month(found: pa.StructArray) -> Floats:
    first_letters = pc.utf8_lower(pc.utf8_slice_codeunits(_group(found, "month"), 0, 3))
    month = np.asarray(pc.index_in(first_letters, pa.array(MONTHS, first_letters.type)), np.int64) + 1
    return calendar.midnight(_year(found, "y"), month, _number(found, "d"))


# Dates that read one way only, each with what may follow it.
DATES: tuple[tuple[str, DateOf], ...] = (
    (r"(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})", _year_month_day),
    (r"(?P<y>\d{4})(?P<m>0\d|1[0-2])(?P<d>\d\d)", _year_month_day),
    (r"(?P<y>\d{4})-(?P<m>\d\d)(?P<d>)$", _year_month_day),
    (r"(?P<y>\d{4})-?W(?P<week>\d\d)-?(?P<d>\d)", _week_date),
    (r"(?P<y>\d{4})-(?P<d>\d{3})", _day_of_year),
    (rf"{DAY}[-/. ,]*{MONTH}[-/. ,]*(?P<y>\d{{4}}|\d\d)", _named_month),
    (rf"{MONTH}[-/. ]*{DAY}[-/, ]+(?P<y>\d{{4}}|\d\d)", _named_month),
    (rf"(?P<y>\d{{4}})[-/. ,]*{MONTH}[-/. ]*{DAY}", _named_month),
)
# Three numbers in an order that the whole column decides.
TRIPLES = (
    r"(?P<a>\d{1,2})[-/. ] ?(?P<b>\d{1,2})[-/. ] ?(?P<c>\d{4}|\d\d)",
    r"(?P<a>\d\d)(?P<b>\d\d)(?P<c>(?:19|20)\d\d|\d\d)",
)
# Format → groups of year, month and day.
ORDERS = {"%d/%m/%Y": tuple("cba"), "%m/%d/%Y": tuple("cab"), "%y/%m/%d": tuple("abc")}
CALLED = {"%d/%m/%Y": "day first", "%m/%d/%Y": "month first", "%y/%m/%d": "year first"}


def from_text(text: pa.Array, counts: Ints) -> list[Reading]:
    """Choose the reading of distinct texts (n,) without nulls; `counts` (n,) says how many rows each has."""
    text = _tidy(text)
    times = np.full(len(text), np.nan)
    for pattern, date_of in DATES:
        rows, found = _matches(text, np.flatnonzero(np.isnan(times)), pattern)
        if len(rows):
            times[rows] = _add_clock(date_of(found), found)
    orders = {name: times.copy() for name in ORDERS}
    of_triples, short = np.zeros(len(text), np.bool_), False
    for pattern in TRIPLES:
        rows, found = _matches(text, np.flatnonzero(np.isnan(times) & ~of_triples), pattern)
        of_triples[rows] = True
        for name, (year, month, day) in ORDERS.items() if len(rows) else ():
            days = calendar.midnight(_year(found, year), _number(found, month), _number(found, day))
            orders[name][rows] = _add_clock(days, found)
        short |= bool(len(rows)) and bool(pc.any(pc.equal(pc.utf8_length(_group(found, "c")), 2)).as_py())
    only = Reading("", times, ~np.isnan(times))
    if not of_triples.any():
        return [only]
    latest = calendar.now_at_the_latest() if short else np.inf
    readings = [
        Reading(name, read, of_triples & (read <= latest), short_years=short, called=CALLED[name])
        for name, read in orders.items()
    ]
    return choose(readings, np.where(of_triples, counts, 0)) or [only]


def _tidy(text: pa.Array) -> pa.Array:
    for pattern, replacement in (
        (INVISIBLE, ""),
        (BLANKS, " "),
        (DASHES, "-"),
        (WEEKDAY, ""),
        (YEAR_LAST, r"\1 \2 \5 \3\4"),
        (r"(?i) (?:at|-) ", " "),
    ):
        text = pc.replace_substring_regex(text, pattern, replacement)
    return pc.utf8_trim_whitespace(text)


def _matches(text: pa.Array, rows: Ints, date: str) -> tuple[Ints, pa.StructArray]:
    """Return which of the rows begin with such a date, and its groups."""
    found = pc.extract_regex(text.take(pa.array(rows)), rf"(?i)^{date}(?P<rest>(?:[^\d].*)?)$")
    matched = np.asarray(found.is_valid())
    return rows[matched], found.filter(pa.array(matched))


def _add_clock(days: Floats, found: pa.StructArray) -> Floats:
    """Add the time of day to the start of days (n,), and convert its zone; without one it is UTC."""
    clock = pc.extract_regex(_group(found, "rest"), REST)
    readable = np.asarray(clock.is_valid())
    hour, minute, second = (_clock_number(clock, unit) for unit in "hms")
    half = _group(clock, "half")
    twelve = np.asarray(pc.fill_null(pc.not_equal(half, ""), False))
    afternoon = np.asarray(pc.fill_null(pc.equal(pc.utf8_lower(half), "p"), False))
    readable &= ~(twelve & (hour > 12))
    hour = np.where(twelve, hour % 12 + 12 * afternoon, hour)
    zone_hour, zone_minute = _number(clock, "zh"), _number(clock, "zm")
    readable &= (zone_hour <= 14) & (zone_minute <= 59)
    ahead = np.where(np.asarray(pc.fill_null(pc.equal(_group(clock, "sign"), "+"), False)), 1, -1)
    zone = ahead * (zone_hour * 3600 + zone_minute * 60)
    times = days + calendar.seconds_of_day(hour, minute, second) - zone
    return _from_named_zones(np.where(readable, times, np.nan), _group(clock, "name"))


def _from_named_zones(times: Floats, names: pa.Array) -> Floats:
    """Convert local times (n,) of CET or Europe/Berlin to UTC; the hour that comes twice is no time."""
    distinct = pc.utf8_lower(pc.fill_null(names, "")).dictionary_encode()
    spelled = distinct.dictionary.to_pylist()
    if spelled == [""]:
        return times
    codes = np.asarray(distinct.indices)
    ahead = np.array([ABBREVIATIONS.get(name, 0 if not name else np.nan) for name in spelled]) * 3600
    utc: Floats = times - ahead[codes]
    regions = {region.lower(): region for region in available_timezones() if "/" in region}
    for number in (number for number, name in enumerate(spelled) if name in regions):
        rows = np.flatnonzero(codes == number)
        local = pd.DatetimeIndex(pd.to_datetime(times[rows], unit="s"))
        zoned = local.tz_localize(regions[spelled[number]], ambiguous="NaT", nonexistent="NaT")
        utc[rows] = (zoned.tz_convert(None) - pd.Timestamp(0)) // pd.Timedelta(seconds=1)
    return utc


def _group(found: pa.StructArray, name: str) -> pa.Array:
    return pc.struct_field(found, name)


def _number(found: pa.StructArray, name: str, default: int = 0) -> Ints:
    text = pc.fill_null(_group(found, name), "")
    return np.asarray(pc.if_else(pc.equal(text, ""), str(default), text).cast(pa.int64()))


def _clock_number(clock: pa.StructArray, unit: str) -> Ints:
    """Return the hours, minutes or seconds (n,) of whichever of CLOCKS matched."""
    of_each = [_number(clock, f"{unit}{number}") for number in range(1, len(CLOCKS) + 1)]
    return np.asarray(np.sum(of_each, axis=0), np.int64)


def _year(found: pa.StructArray, name: str) -> Ints:
    """Return years of four or two digits (n,); -1 if they have another number of digits."""
    year, digits = _number(found, name), np.asarray(pc.utf8_length(_group(found, name)))
    return np.where(digits == 4, year, np.where(digits == 2, calendar.full_year(year), -1))
