"""Options that the offline verbs share, and the settings that result from them."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from export_scripts.settings import Settings, load_settings
from operations.errors import CestaError

File = Annotated[Path | None, typer.Option("--settings", help="A toml with what differs from pipeline.toml.")]
Transactions = Annotated[Path | None, typer.Option(help="csv or parquet; default: the Complete Journey.")]
Products = Annotated[Path | None, typer.Option(help="csv or parquet, optional.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="One setting, e.g. --set data.columns.user_id=customer; repeatable."),
]
EngineName = Annotated[
    Literal["local", "ray"] | None,
    typer.Option("--engine", help="Where partitions are computed: by processes here, or on a Ray cluster."),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Partitions computed at once. Counts and metrics stay the same.")
]


def chosen_settings(
    path: Path | None,
    transactions: Path | None = None,
    products: Path | None = None,
    changes: list[str] | None = None,
    engine: str | None = None,
    workers: int | None = None,
) -> Settings:
    """Return the defaults, changed by the toml in `path`, the options, and then each `table.key=value`.

    Raises CestaError for a change without "=", and BadSettings like load_settings.
    """
    overrides: dict[str, object] = {
        "data.transactions": str(transactions.absolute()) if transactions else None,
        "data.products": str(products.absolute()) if products else None,
        "engine.name": engine,
        "engine.workers": workers,
    }
    for change in changes or []:
        name, equals, value = change.partition("=")
        if not equals:
            raise CestaError(f"--set {change}: write it as table.key=value, e.g. --set train.seed=8")
        overrides[name] = _value(value)
    return load_settings(path, overrides)


def _value(text: str) -> object:
    """Read a number, list or boolean as JSON; any other text stays as it is."""
    try:
        value: object = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value
