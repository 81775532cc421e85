"""Options that the offline verbs share, and the settings that they make."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from export_scripts.settings import Settings, load_settings
from operations.errors import CestaError

File = Annotated[Path | None, typer.Option("--settings", help="A toml with what differs from pipeline.toml.")]
Transactions = Annotated[Path | None, typer.Option(help="csv or parquet; without it the Complete Journey.")]
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
    """pipeline.toml with a user's own toml, tables and single values over it.

    Raises CestaError for a change without "=", BadSettings as load_settings.
    """
    overrides: dict[str, Any] = {
        "data.transactions": str(transactions.absolute()) if transactions else None,
        "data.products": str(products.absolute()) if products else None,
    }
    for change in changes or []:
        name, equals, value = change.partition("=")
        if not equals:
            raise CestaError(f"--set {change}: write it as table.key=value, e.g. --set train.seed=8")
        overrides[name] = _value(value)
    return load_settings(path, overrides)


def _value(text: str) -> Any:
    """A number, list or boolean as JSON reads it; anything else is the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
