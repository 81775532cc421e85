"""`cesta stock`: what is available in a shop, told to its gateway and read from it."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TextIO

import typer

from operations.commands.ask import read_key
from operations.errors import CestaError

if TYPE_CHECKING:
    import cesta_client

WORDS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": None}

app = typer.Typer(no_args_is_help=True, add_completion=False)

Address = Annotated[str, typer.Option(envvar="CESTA_GATEWAY", help="host:port of the gateway's HTTP port.")]
KeyFile = Annotated[
    Path, typer.Option(envvar="CESTA_KEY_FILE", help="A file with a key of the role stock, shop or admin.")
]
Tls = Annotated[bool, typer.Option("--ssl", help="Encrypt the connection.")]


@app.callback()
def stock() -> None:
    """The stock: tell and show what is available now."""


@app.command("set")
def set_(
    file: Annotated[Path, typer.Argument(help="A csv file with a head, or ndjson; - reads ndjson.")],
    key_file: KeyFile,
    version: Annotated[int | None, typer.Option(help="Above the one before; by default the next.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Forget all entries of before.")] = False,
    address: Address = "127.0.0.1:8080",
    ssl: Tls = False,
) -> None:
    """Tell the gateway what is available.

    Columns, or keys of each line: item_id, available (true or false) and,
    optionally, store_id. Without a value in available, the store has what the
    whole shop has. Over 2,000 lines need a version: they are sent in parts.
    """
    import cesta_client

    try:
        with cesta_client.Recommender(
            address, protocol="http", timeout_s=30.0, api_key=read_key(key_file), ssl=ssl
        ) as shop:
            done = shop.set_availability(read_entries(file), version=version, replace=replace)
    except cesta_client.CestaError as error:
        raise CestaError(str(error)) from None
    print(f"version {done.version} holds on {done.applied} of {done.samplers} sampler processes")


@app.command()
def show(
    key_file: KeyFile,
    item: Annotated[str | None, typer.Option(help="Tell whether this item is available.")] = None,
    store: Annotated[str | None, typer.Option(help="In this store; by default in the whole shop.")] = None,
    address: Address = "127.0.0.1:8080",
    ssl: Tls = False,
) -> None:
    """Print the version of the stock as JSON, and whether an item is available."""
    from operations.gateway.remote import RemoteGateway

    gateway = RemoteGateway(f"{'https' if ssl else 'http'}://{address}", read_key(key_file))
    print(json.dumps(gateway.stock(item or "", store or ""), ensure_ascii=False))


def read_entries(file: Path) -> "Iterator[cesta_client.Availability]":
    """Yield the entries of a csv file, or of ndjson. Raises CestaError with the line that is wrong."""
    if str(file) == "-":
        yield from _entries(_ndjson(sys.stdin), "standard input")
        return
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.DictReader(lines) if file.suffix == ".csv" else _ndjson(lines)
            yield from _entries(rows, str(file))
    except UnicodeDecodeError as error:
        raise CestaError(f"{file} is not UTF-8 at byte {error.start}; save it as UTF-8") from None


def _ndjson(lines: TextIO) -> Iterator[Any]:
    for line in lines:
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError:
                yield line


def _entries(rows: Iterable[Any], name: str) -> "Iterator[cesta_client.Availability]":
    import cesta_client

    for number, row in enumerate(rows, start=1):
        try:
            store = row.get("store_id") or None
            yield cesta_client.Availability(str(row["item_id"]), _available(row["available"]), store)
        except (KeyError, TypeError, AttributeError):
            raise CestaError(
                f"{name}: entry {number} is no item_id with available (true or false): {str(row)[:80]}"
            ) from None


def _available(value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise TypeError
    return WORDS[value.strip().lower()]
