"""Options that the offline verbs share, and the settings that result from them."""

import json
from pathlib import Path
from typing import Annotated

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


def chosen_settings(
    path: Path | None,
    transactions: Path | None = None,
    products: Path | None = None,
    changes: list[str] | None = None,
) -> Settings:
    """Return the defaults, changed by the toml in `path`, then by the tables, then by each `table.key=value`.

    Raises CestaError for a change without "=", and BadSettings like load_settings.
    """
    overrides: dict[str, object] = {
        "data.transactions": str(transactions.absolute()) if transactions else None,
        "data.products": str(products.absolute()) if products else None,
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
