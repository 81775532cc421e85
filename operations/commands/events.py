"""`cesta events`: the log of purchases and returns, without a server."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.table import Table

from operations.errors import CestaError
from operations.outputs import ARTIFACTS, Outputs
from operations.terminal import PlainConsole

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from operations.events.files import Line
    from operations.events.store import EventStore

STORE: Final = str(Outputs(ARTIFACTS).gateway / "events")
BATCH: Final = 1000  # events of one commit
SHOWN: Final = 5  # refused lines

app = typer.Typer(no_args_is_help=True, add_completion=False)

Store = Annotated[
    str, typer.Option(envvar="CESTA_EVENTS", help="Where events are kept, as for cesta serve --events.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.callback()
def events() -> None:
    """The log of purchases and returns: import, export, state.

    \b
      cesta events status                    position, size, first and last event
      cesta events import receipts.csv       a row for each item; rows of a basket follow each other
      cesta events export > events.ndjson    in the order of the log

    They open the store themselves, also beside a server that writes to it.
    """


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help=".ndjson, .csv or .parquet", exists=True, dir_okay=False)],
    store: Store = STORE,
    timezone: Annotated[
        str | None, typer.Option(help="Of times without an offset, such as Europe/Berlin.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add the events of a file to the log. What is known counts once.

    A csv or parquet file has a row for each item with basket_id and item_id,
    and maybe user_id, store_id, at, type, event_id, request_id. Without
    event_id an event is called receipt:BASKET_ID. The exit status is 1 if an
    event was refused; the others are kept.
    """
    from operations.events.files import read_events

    with closing(_open(store)) as opened:
        told, refused = _keep(read_events(file, _zone(timezone)), opened)
        told["position"] = opened.last_position()
    for line in refused[:SHOWN]:
        print(f"{file}, line {line.number}: {line.event}", file=sys.stderr)
    if len(refused) > SHOWN:
        print(f"{len(refused) - SHOWN} more were refused", file=sys.stderr)
    _show({**told, "refused": len(refused)}, as_json)
    raise typer.Exit(1 if refused else 0)


@app.command()
def export(
    store: Store = STORE,
    after: Annotated[int, typer.Option(help="Leave out the events up to this position.")] = 0,
) -> None:
    """Print the events as ndjson, in the order of the log."""
    from operations.events.files import write_events

    with closing(_open(store, must_exist=True)) as opened:
        while logged := opened.read(after):
            for line in write_events(logged):
                print(line)
            after = logged[-1].position


@app.command()
def status(store: Store = STORE, as_json: AsJson = False) -> None:
    """Print the last position, the size, and how large an event is."""
    with closing(_open(store, must_exist=True)) as opened:
        position, size = opened.last_position(), opened.size_bytes()
        _show(
            {
                "log_id": opened.log_id(),
                "position": position,
                "bytes": size,
                "bytes_per_event": round(size / position) if position else None,
            },
            as_json,
        )


def _open(address: str, must_exist: bool = False) -> "EventStore":
    from operations.events.opening import open_store
    from operations.events.sqlite_store import FILE

    if must_exist and "://" not in address and not (Path(address) / FILE).exists():
        raise CestaError(f"there is no event log in {address}; name its folder with --store")
    return open_store(address)


def _zone(name: str | None) -> "ZoneInfo | None":
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError):
        raise CestaError(f'there is no time zone "{name}"; write one such as Europe/Berlin or UTC') from None


def _keep(lines: "Iterator[Line]", store: "EventStore") -> tuple[dict[str, Any], list["Line"]]:
    """Keep events in commits of BATCH; return how many were accepted or known, and the refused lines."""
    import time

    from operations.events.event import BadEvent, Event
    from operations.events.files import Line
    from operations.events.intake import check_time
    from operations.events.store import State

    counts: Counter[State] = Counter()
    refused: list[Line] = []
    while batch := list(islice(lines, BATCH)):
        now_ms = time.time_ns() // 1_000_000
        good: list[tuple[int, Event]] = []
        for number, event in batch:
            try:
                if isinstance(event, BadEvent):
                    raise event
                check_time(event, now_ms, None)
            except BadEvent as error:
                refused.append(Line(number, error))
                continue
            good.append((number, event))
        outcomes = store.append([event for _, event in good], now_ms)
        for (number, event), outcome in zip(good, outcomes, strict=True):
            counts[outcome.state] += 1
            if outcome.state is State.CHANGED:
                reason = f'another event "{event.event_id}" is at position {outcome.position}'
                refused.append(Line(number, BadEvent("event_changed", "/event_id", reason)))
    return {"accepted": counts[State.ACCEPTED], "known": counts[State.KNOWN]}, refused


def _show(told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(told))
        return
    table = Table(show_header=False, box=None)
    for name, value in told.items():
        table.add_row(name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value))
    PlainConsole().print(table)
