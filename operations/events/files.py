"""Files with events: ndjson as the gateway takes it; receipts as csv or parquet with a row for each item."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from ensemble.event_tail import Logged
from operations.errors import CestaError
from operations.events.event import BadEvent, Event, check_event, read_event

READS: Final = (".ndjson", ".jsonl", ".csv", ".parquet")
_ROWS: Final = 10_000  # of parquet at a time


class Line(NamedTuple):
    """A place in a file, and the event there or why there is none."""

    number: int
    event: Event | BadEvent


def read_events(path: Path, zone: ZoneInfo | None = None) -> Iterator[Line]:
    """Yield the events of a file, in their order. Times without an offset are those of ``zone``.

    Of csv and parquet, neighbouring rows with one basket_id are one event. Its id is "receipt:" and the
    basket_id, if there is no column event_id.

    Raises CestaError for another kind of file, and for one that cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix not in READS:
        raise CestaError(f"{path} is none of {', '.join(READS)}")
    if suffix in (".ndjson", ".jsonl"):
        yield from _lines(path, zone)
        return
    rows = _csv_rows(path) if suffix == ".csv" else _parquet_rows(path)
    for _, group in groupby(rows, key=lambda row: (row[1].get("type"), str(row[1].get("basket_id")))):
        numbered = list(group)
        yield Line(numbered[0][0], _checked(_receipt([row for _, row in numbered]), zone))


def write_events(logged: Iterable[Logged]) -> Iterator[str]:
    """Yield each event as a line of ndjson, which can be imported. `at` is the time that counts."""
    for each in logged:
        event = read_event(each.content)
        given = json.loads(event.content())
        given.pop("at_ms", None)
        at = datetime.fromtimestamp(each.at_ms / 1000, UTC).isoformat(timespec="milliseconds")
        yield json.dumps({**given, "at": at}, ensure_ascii=False)


def _lines(path: Path, zone: ZoneInfo | None) -> Iterator[Line]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                given = json.loads(line.decode())
            except (ValueError, RecursionError):
                yield Line(number, BadEvent("not_json", "", "this is not JSON in UTF-8"))
                continue
            yield Line(number, _checked(given, zone))


def _csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        _check_columns(path, reader.fieldnames or [])
        try:
            for row in reader:
                yield reader.line_num, {name: value for name, value in row.items() if value}
        except (csv.Error, UnicodeDecodeError) as error:
            raise CestaError(f"{path} cannot be read after line {reader.line_num}: {error}") from None


def _parquet_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowException as error:
        raise CestaError(f"{path} cannot be read: {error}") from None
    _check_columns(path, file.schema_arrow.names)
    number = 0
    for batch in file.iter_batches(_ROWS):
        for row in batch.to_pylist():
            number += 1
            yield number, {name: value for name, value in row.items() if value is not None}


def _check_columns(path: Path, names: Iterable[str]) -> None:
    for wanted in ("basket_id", "item_id"):
        if wanted not in names:
            raise CestaError(f"{path} has no column {wanted}; columns: {', '.join(names)}")


def _receipt(rows: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the event of the rows of one basket; a number for an id is its digits."""
    first = rows[0]
    names = ("type", "event_id", "basket_id", "user_id", "store_id", "request_id")
    given = {name: str(first[name]) for name in names if name in first}
    kind = given.get("type", "purchase")
    if "basket_id" in given:
        prefix = "receipt" if kind == "purchase" else kind
        given.setdefault("event_id", f"{prefix}:{given['basket_id']}")
    if "at" in first:
        given["at"] = first["at"].isoformat() if isinstance(first["at"], datetime) else str(first["at"])
    return {**given, "item_ids": [str(row["item_id"]) for row in rows if "item_id" in row]}


def _checked(given: object, zone: ZoneInfo | None) -> Event | BadEvent:
    try:
        return check_event(_in_zone(given, zone))
    except BadEvent as error:
        return error


def _in_zone(given: object, zone: ZoneInfo | None) -> object:
    """Give a time without an offset that of the zone. Another time, and what is none, stays."""
    if zone is None or not isinstance(given, dict) or not isinstance(given.get("at"), str):
        return given
    try:
        moment = datetime.fromisoformat(given["at"])
    except ValueError:
        return given
    return given if moment.tzinfo else {**given, "at": moment.replace(tzinfo=zone).isoformat()}
