"""Runs `cesta etl` on ids in small files, as a user types it: ids and sentences come out."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from typer.testing import CliRunner

from operations.cli import make_app
from operations.errors import CestaError

APP = make_app()
HEADER = "user_id,basket_id,item_id\n"


@dataclass(frozen=True)
class Outcome:
    """What a run said, and the ids of the shop that it wrote, sorted; none if it was refused."""

    said: str
    users: list[str] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    baskets: list[str] = field(default_factory=list)

    @property
    def refused(self) -> bool:
        return not self.items

    @property
    def warnings(self) -> list[str]:
        """Without those about what small shops lack."""
        events = [json.loads(line) for line in self.said.splitlines() if line.startswith("{")]
        said = [event["event"] for event in events if event["level"] == "warning"]
        return [sentence for sentence in said if not sentence.startswith(("no ", "user ", "item "))]


def run_etl(transactions: Path, products: Path | None = None, **settings: str) -> Outcome:
    """Run `cesta etl` with `settings` of [data]. A warning of Python's or a traceback fails the test."""
    out = transactions.parent / "out"
    words = ["etl", "--out", str(out), "--transactions", str(transactions)]
    words += ["--products", str(products)] if products else []
    for key, value in settings.items():
        words += ["--set", f"data.{key.replace('__', '.')}={value}"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = CliRunner().invoke(APP, words)
    if isinstance(done.exception, CestaError):
        return Outcome(str(done.exception))
    assert done.exit_code == 0, done.exception
    users, items, baskets = (
        sorted(set(pd.read_parquet(out / "data" / f"{table}.parquet")[column]) - {""})
        for table, column in (("users", "user_id"), ("catalog", "item_id"), ("baskets", "basket_id"))
    )
    return Outcome(done.stderr, users, items, baskets)


def run_on_csv(folder: Path, text: str | bytes, **settings: str) -> Outcome:
    path = folder / "sales.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return run_etl(path, None, **settings)


def run_on_users(folder: Path, users: Sequence[str], **settings: str) -> Outcome:
    """Run on a csv with one receipt of two lines for each cell of the user column."""
    lines = [f"{user},b{basket},{item}" for basket, user in enumerate(users) for item in "xy"]
    return run_on_csv(folder, HEADER + "\n".join(lines) + "\n", **settings)


def run_on_array(folder: Path, users: pa.Array) -> Outcome:
    """Run on a parquet file with one receipt of two lines for each user."""
    rows = range(2 * len(users))
    twice = pa.chunked_array([users.slice(row // 2, 1) for row in rows])
    baskets = [str(row // 2) for row in rows]
    path = folder / "sales.parquet"
    pq.write_table(
        pa.table({"user_id": twice, "basket_id": baskets, "item_id": ["x", "y"] * len(users)}), path
    )
    return run_etl(path)
