"""Runs `cesta etl` on times in small files, as a user types it: sentences and files come out."""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from typer.testing import CliRunner

from operations.cli import make_app
from operations.errors import CestaError

APP = make_app()


@dataclass(frozen=True)
class Outcome:
    """What a run said, and the time of each receipt, in the order of the file; none if it was refused."""

    said: str
    times: list[str]

    @property
    def warnings(self) -> list[str]:
        events = [json.loads(line) for line in self.said.splitlines() if line.startswith("{")]
        return [event["event"] for event in events if event["level"] == "warning"]


def run_etl(transactions: Path, **settings: str) -> Outcome:
    """Run `cesta etl` with `settings` of [data]. A warning of Python's or a traceback fails the test."""
    out = transactions.parent / "out"
    changes = [part for key, value in settings.items() for part in ("--set", f"data.{key}={value}")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = CliRunner().invoke(
            APP, ["etl", "--out", str(out), "--transactions", str(transactions), *changes]
        )
    if isinstance(done.exception, CestaError):
        return Outcome(str(done.exception), [])
    assert done.exit_code == 0, done.exception
    baskets = pd.read_parquet(out / "data" / "baskets.parquet").set_index("basket_id")["time"]
    order = sorted(baskets.index, key=int)
    return Outcome(done.stderr, [pd.Timestamp(time, unit="s").isoformat() for time in baskets[order]])


def run_on_texts(folder: Path, texts: list[str], **settings: str) -> Outcome:
    """Run on a csv with one receipt of two lines for each time."""
    lines = [f'{basket};{item};"{text}"' for basket, text in enumerate(texts) for item in "ab"]
    path = folder / "sales.csv"
    path.write_text("\n".join(["basket_id;item_id;timestamp", *lines]) + "\n", encoding="utf-8")
    return run_etl(path, **settings)


def run_on_array(folder: Path, times: pa.Array, **settings: str) -> Outcome:
    """Run on a parquet file with one receipt of two lines for each time."""
    twice = times.take(pa.array([row // 2 for row in range(2 * len(times))]))
    baskets = [str(row // 2) for row in range(len(twice))]
    items = ["a", "b"] * len(times)
    path = folder / "sales.parquet"
    pq.write_table(pa.table({"basket_id": baskets, "item_id": items, "timestamp": twice}), path)
    return run_etl(path, **settings)
