"""Reads a table of the shop into memory: the products, and transactions that are few."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from export_scripts.receipts.opening import open_source
from export_scripts.receipts.problems import Problems
from export_scripts.receipts.source import Source, Unreadable
from export_scripts.receipts.tables import Table


def read_table(path: Path | str, problems: Problems) -> Table | None:
    """Read a table of csv (.csv .tsv .txt, also .gz) or parquet files.

    Returns None and adds a problem if it cannot be read.
    """
    source = open_source(path, problems)
    return read_source(source, problems) if source else None


def read_source(source: Source, problems: Problems) -> Table | None:
    """Read all rows of the table; None if it is Unreadable."""
    try:
        read = list(source.record_batches(problems))
    except Unreadable:
        return None
    data = pa.Table.from_batches([batch for batch, _ in read], source.schema)
    numbers = np.concatenate([rows for _, rows in read])
    return Table(source.name, data, numbers, source.repaired, tuple(part.name for part in source.parts))
