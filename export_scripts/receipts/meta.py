"""meta.json: the facts about a shop that etl writes beside its tables."""

import json
from pathlib import Path
from typing import Final, NotRequired, TypedDict

FILE: Final = "meta.json"

Settings = dict[str, dict[str, object]]  # [data] and [etl] as etl ran, without paths


class Counts(TypedDict):
    """Numbers of rows before and after the dropping."""

    lines_read: int
    lines_kept: int
    dropped: dict[str, int]  # reason → lines
    interactions: int
    baskets: int
    users: int  # without the unknown user
    items: int  # without the unknown item
    items_sold: int
    items_dropped: int
    stores: NotRequired[int]  # without the unknown store; missing if the receipts name none


class Meta(TypedDict):
    """Facts about one shop."""

    sources: list[str]  # file names, transactions first
    has_users: bool
    has_time: bool
    time_range: list[str] | None  # first and last time in ISO 8601, UTC
    category_columns: list[str]  # broad to fine
    unused_drop_rules: list[str]
    counts: Counts
    settings: Settings


class StoredMeta(Meta):
    """The content of the file."""

    fingerprint: str  # SHA-256 of the tables' content


def read_meta(folder: Path) -> StoredMeta:
    """Read the facts about the shop that etl wrote to ``folder``."""
    facts: StoredMeta = json.loads((folder / FILE).read_text(encoding="utf-8"))
    return facts
