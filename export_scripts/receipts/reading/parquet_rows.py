"""The rows of a parquet file in a stream, with the number of each."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import closing

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from export_scripts.receipts.reading.parts import Part
from export_scripts.receipts.reading.places import first_row
from export_scripts.receipts.written import bare

ROWS_PER_BYTE, MOST_ROWS = 10, 10**7  # from ten million rows on, bytes count
ROWS_AT_ONCE = 1 << 18


def parquet_columns(part: Part) -> tuple[list[tuple[str, pa.DataType]], int]:
    """Return (name, type) of each column, and the number of rows. Raises OSError for too many rows."""
    with closing(_open(part)) as file:
        rows = file.metadata.num_rows
        if rows > MOST_ROWS and rows > ROWS_PER_BYTE * part.size:
            raise OSError(f"it claims {rows:,} rows in {part.size:,} bytes: it holds no receipts")
        return [(name, field.type) for name, field in zip(_names(file), file.schema_arrow, strict=True)], rows


def parquet_batches(
    part: Part, index: int, columns: Collection[str]
) -> Iterator[tuple[pa.RecordBatch, NDArray[np.int64]]]:
    """Yield (rows with these columns, in the order of the file; their numbers (n,), from 1 on)."""
    with closing(_open(part)) as file:
        stored = dict(zip(_names(file), file.schema_arrow.names, strict=True))
        chosen = [name for name in stored if name in columns]
        row = first_row(index) + 1
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=[stored[name] for name in chosen]):
            yield batch.rename_columns(chosen), np.arange(row, row + batch.num_rows)
            row += batch.num_rows


def _open(part: Part) -> pa.parquet.ParquetFile:
    try:
        # Years after 2262 wrap in ns.
        return pa.parquet.ParquetFile(part.open(), coerce_int96_timestamp_unit="us")
    except UnicodeDecodeError:
        raise UnicodeError("the name of a column is not UTF-8") from None


def _names(file: pa.parquet.ParquetFile) -> list[str]:
    return [bare(name) for name in file.schema_arrow.names]
