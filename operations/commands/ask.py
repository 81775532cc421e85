"""`cesta ask`: a question to a running server."""

import csv
import json
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from operations.commands.options import Out
from operations.errors import CestaError
from operations.outputs import ARTIFACTS, Outputs
from operations.terminal import PlainConsole

Ids = Annotated[
    list[str] | None,
    typer.Option(help="An item id; repeatable, or several as a csv line: a,b or '\"Milk, 2%\",b'."),
]
Excluded = Annotated[
    list[str] | None, typer.Option(help="An item id never to recommend; repeatable, or csv.")
]
Categories = Annotated[list[str] | None, typer.Option(help="Recommend only from this category; repeatable.")]
Unwanted = Annotated[list[str] | None, typer.Option(help="Recommend nothing from this category; repeatable.")]
Items = Annotated[list[str] | None, typer.Option(help="Recommend only this item id; repeatable, or csv.")]
History = Annotated[
    list[str] | None,
    typer.Option(help="An item id that the customer bought and how many days ago, ID=DAYS; repeatable."),
]


def ask(
    basket: Ids = None,
    user: Annotated[str | None, typer.Option(help="A user id.")] = None,
    exclude: Excluded = None,
    category: Categories = None,
    exclude_category: Unwanted = None,
    item: Items = None,
    history: History = None,
    store: Annotated[str | None, typer.Option(help="The id of the store that asks.")] = None,
    k: Annotated[int, typer.Option(help="How many recommendations.")] = 10,
    session: Annotated[
        str | None, typer.Option(help="A visit, which stays with one release at a gateway; logged there.")
    ] = None,
    placement: Annotated[
        str | None, typer.Option(help="Where the answer is shown; a gateway logs and counts it.")
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="The arm of an experiment; a gateway logs and counts it.")
    ] = None,
    address: Annotated[
        str, typer.Option(envvar="CESTA_ADDRESS", help="host:port of the server.")
    ] = "127.0.0.1:8001",
    protocol: Annotated[str, typer.Option(help="grpc or http.")] = "grpc",
    key_file: Annotated[
        Path | None, typer.Option(envvar="CESTA_KEY_FILE", help="A file with a key, for a gateway.")
    ] = None,
    ssl: Annotated[bool, typer.Option("--ssl", help="Encrypt the connection.")] = False,
    timeout_s: float = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    out: Out = ARTIFACTS,
) -> None:
    """Ask a running server, or a gateway, what goes into a basket next.

    The table shows names and categories if OUT holds etl's catalog.
    """
    import cesta_client
    from operations.commands.answers import answer_table
    from operations.gateway.items import read_items

    try:
        with cesta_client.Recommender(
            address,
            protocol=protocol,  # type: ignore[arg-type]  # the client refuses other protocols
            timeout_s=timeout_s,
            api_key=read_key(key_file) if key_file else None,
            ssl=ssl,
        ) as shop:
            answer = shop.recommend(
                basket=read_ids("--basket", basket),
                user_id=user,
                k=k,
                exclude=read_ids("--exclude", exclude),
                categories=category or None,
                store_id=store,
                exclude_categories=exclude_category or None,
                items=read_ids("--item", item),
                history=read_history(history),
                session_id=session,
                placement=placement,
                variant=variant,
            )
    except cesta_client.CestaError as error:
        raise CestaError(str(error)) from None
    if as_json:
        items = [
            {
                "item_id": item.item_id,
                "score": item.score,
                "rank": item.rank,
                "reasons": [reason.name.lower() for reason in item.reasons],
            }
            for item in answer
        ]
        warnings = [{"code": warning.code, "value": warning.value} for warning in answer.warnings]
        told = {"warnings": warnings} if warnings else {}
        print(json.dumps({"release": answer.release, "items": items, **told}, ensure_ascii=False))
    else:
        for warning in answer.warnings:
            print(told_of(warning.code, warning.value, answer.release), file=sys.stderr)
        PlainConsole().print(answer_table("What goes in next", answer, read_items(Outputs(out).data)))


TOLD: Final = {  # code of a warning → what the release lacks, and what follows
    "unknown_category": ("has no category", "it matches nothing"),
    "unknown_excluded_category": ("has no category", "it excludes nothing"),
    "unknown_item": ("has no item", "it is left out"),
    "unknown_store": ("has no store", "the answer is the one without a store"),
    "unsupported_input": ("is older than the field", "it has no effect"),
}


def told_of(code: str, value: str, release: int) -> str:
    """Return a warning as a sentence."""
    if known := TOLD.get(code):
        lacking, effect = known
        return f'release {release} {lacking} "{value}"; {effect}'
    return f"release {release} warns: {code}: {value}"


def read_key(file: Path) -> str:
    """Return the key in ``file``. Raises CestaError if it cannot be read or is empty."""
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise CestaError(f"--key-file: {file} cannot be read: {reason}") from None
    if not key:
        raise CestaError(f'--key-file: {file} is empty; "cesta keys add NAME" prints a key once')
    return key


def read_history(values: list[str] | None) -> list[tuple[str, float]]:
    """Return the pairs of item id and age in days that values such as ``1029743=3.5`` hold."""
    pairs = []
    for value in values or []:
        item, _, age = value.rpartition("=")
        try:
            pairs.append((item.strip(), float(age)))
        except ValueError:
            raise CestaError(f"--history {value} is not ID=DAYS, e.g. 1029743=3.5") from None
    return pairs


def read_ids(option: str, values: list[str] | None) -> list[str]:
    """Return the ids in ``values``. Each value is a line of csv: an id with a comma needs double quotes."""
    ids: list[str] = []
    for value in values or []:
        try:
            rows = list(csv.reader([value], skipinitialspace=True, strict=True))
        except csv.Error as error:
            way_out = """an id with commas or quotes is written as in csv, e.g. '"Milk, 2%",b'"""
            raise CestaError(f"{option} {value} cannot be read ({error}); {way_out}") from None
        ids += [part.strip() for row in rows for part in row if part.strip()]
    return ids
