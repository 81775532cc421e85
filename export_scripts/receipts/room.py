"""Room on the disk for one run of etl, and one sentence where memory or disk run out."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb
import pyarrow.parquet as pq

from export_scripts.receipts.kept.folder import Parts
from export_scripts.receipts.problems import BadInput, Problem
from export_scripts.receipts.reading.parts import Part
from export_scripts.receipts.reading.source import Source
from operations.errors import CestaError

WAY_OUT: Final = "free some of it, or name another folder with --out or [etl] spill"
UNITS: Final = {"K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}
KEPT_FREE: Final = 0.1  # of the free space: other programs write, too
# Bytes, measured at 8 and at 28 million lines and rounded up.
HELD_PER_LINE: Final = 60  # by the database, if nothing is spilled
SPILLED_PER_LINE: Final = 24
WRITTEN_PER_LINE: Final = 10
OF_A_LINE_IN_CSV: Final = 30  # at least
UNPACKED: Final = 8  # times the size of a packed csv
PACKED: Final = re.compile(r"\.(gz|zst|bz2|lz4)$", re.IGNORECASE)


class NoRoomOnDisk(CestaError):  # noqa: N818 - the name itself says what is wrong
    """The disk is too small, or was filled meanwhile. Nothing was left on it."""


@dataclass(frozen=True)
class Needs:
    """Bytes that a run writes: to the folder of the spill while it runs, and below --out."""

    spill: int
    output: int


def needs_of(sources: Sequence[Source], memory: str, parts: Parts | None = None) -> Needs:
    """Estimate from the number of lines, which a csv only tells by its size.

    What is copied goes to `parts` if they are kept, and else to the spill.
    """
    lines = copied = 0
    for source in sources:
        if source.kind == "parquet" and all(part.is_local for part in source.parts):
            lines += sum(pq.read_metadata(str(part.path)).num_rows for part in source.parts)
        else:
            lines += sum(map(_unpacked, source.parts)) // OF_A_LINE_IN_CSV
            copied += sum(_unpacked(part) for part in source.parts if not (parts and parts.hold(part)))
    spilled = lines * SPILLED_PER_LINE if lines * HELD_PER_LINE > bytes_of(memory) else 0
    written = lines * WRITTEN_PER_LINE
    return Needs(spilled, written + copied) if parts and parts.are_kept else Needs(spilled + copied, written)


def _unpacked(part: Part) -> int:
    return part.size * (UNPACKED if PACKED.search(part.name) else 1)


def bytes_of(memory: str) -> float:
    """Return the bytes of a text such as "2GB" or "512 MiB"."""
    number, unit = re.fullmatch(r"([0-9.]+) ?([KMGT])i?B", memory).groups()  # type: ignore[union-attr]  # checked
    return float(number) * UNITS[unit]


def check_room(needs: Needs, spill: Path, out: Path) -> None:
    """Raise NoRoomOnDisk if the estimate exceeds nine tenths of the free space."""
    same = spill.stat().st_dev == out.stat().st_dev
    wanted = [(spill, needs.spill + needs.output if same else needs.spill)]
    wanted += [] if same else [(out, needs.output)]
    for folder, size in wanted:
        free = shutil.disk_usage(folder).free
        if size > free * (1 - KEPT_FREE):
            raise NoRoomOnDisk(
                f"etl needs about {_written(size)} on the disk of {folder}, which has {_written(free)} free: "
                f"{WAY_OUT}"
            )


def _written(size: float) -> str:
    return f"{size / 10**9:,.1f} GB" if size >= 10**8 else f"{size / 10**6:,.1f} MB"


@contextmanager
def told_in_one_sentence(sources: Sequence[Source], memory: str, spill: Path, out: Path) -> Iterator[None]:
    """Turn what libraries raise when memory or disk run out, or a file is damaged, into a sentence."""
    folders = " or of ".join(dict.fromkeys((str(spill), str(out))))
    full = f"the disk of {folders} is full: {WAY_OUT}"
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        if "max_temp_directory_size" in str(error):  # of its own reckoning: what was free at the start
            raise NoRoomOnDisk(full) from error
        raise CestaError(f'etl does not fit into [etl] memory = "{memory}": allow it more') from error
    except MemoryError as error:
        raise CestaError(
            f"etl does not fit into the memory of this machine: {error}; are values of a column very long? "
            "Leave them out"
        ) from error
    except (OSError, duckdb.IOException, duckdb.InvalidInputException) as error:
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
            raise NoRoomOnDisk(full) from error
        if isinstance(error, OSError):
            raise
        reason = str(error).splitlines()[0]
        way_out = "export it again: a part of it is damaged"
        name = sources[0].name
        raise BadInput([Problem(name, f"the file cannot be read: {reason}", way_out)]) from error
