"""Pair counts of stretches of baskets, kept in a folder: what one stage has counted, the next one adds up.

The counts before any basket are a sum over stretches. A stretch is known by what its baskets hold, and not by
the numbers of items or by the rest of the data. So the next training, of more receipts and more items, counts
only what is new. A receipt that comes late changes its stretch, which is then counted again.

The folder OUT/counts has a folder for each kind of pairs, and that a folder for each stretch, whole or
missing. A kind takes at most ROOM times the bytes of its sum, or LEAST_ROOM if that is more. What was not
used for the longest time goes.
"""

import hashlib
import os
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numba
import numpy as np
import pandas as pd
import structlog
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import Histories
from export_scripts.durations import step
from export_scripts.engines.interface import Engine
from export_scripts.engines.local import ThisProcess
from export_scripts.receipts.shop import Shop
from export_scripts.settings import SamplerSettings
from export_scripts.snapshots import counts
from export_scripts.snapshots.pairs import (
    PairCounts,
    add_pairs,
    expected_incidences,
    incidences,
    move_rows,
)
from export_scripts.snapshots.partitions import (
    Baskets,
    Countable,
    Receipts,
    count_in_parts,
    histories_in_parts,
)
from operations.errors import CestaError
from operations.records import file_record
from operations.records.atomic import flush, scratch_folder

log = structlog.get_logger()

FOLDER: Final = "counts"  # beside the checkpoint
VERSION: Final = 1  # of the files and of what they count
MOST_STRETCHES: Final = 12  # the sum of more is kept as one, and so is one whose parts need too much room
ROOM: Final = 3
LEAST_ROOM = 2**26  # bytes; small shops would lose stretches that they need
STAGED: Final = ".partial-"
DIGEST: Final = "sha256"
Names = NDArray[np.uint64]  # hashes of ids


class PartialCounts:
    """The pairs of a shop's items, and of their finest categories, in the baskets before any basket.

    Without a ``folder`` nothing is kept. New stretches are counted by the ``engine``, by default here.
    """

    def __init__(
        self,
        shop: Shop,
        settings: SamplerSettings,
        folder: Path | None = None,
        engine: Engine | None = None,
    ):
        def sums(kind: str, countable: Countable, names: Names, of_item: Names) -> _Sums:
            return _Sums(countable, names, of_item, folder and folder / kind, self._engine)

        self._shop, self._engine = shop, engine or ThisProcess()
        self._lines = counts.lines_of(shop, settings.largest_basket)
        items = _hash(shop.catalog["item_id"].tolist())
        numbered, names = counts.categories(shop, 0)
        finest, categories = numbered.finest(), _hash([name.decode() for name in names.unpack()])
        self._items = sums("items", Countable(self._lines), items, items)
        self._categories = sums(
            "categories", Countable(self._lines, finest, len(categories)), categories, categories[finest]
        )

    def pairs(self, end: int) -> PairCounts:
        """Return the pairs of items in the baskets before ``end``.

        Every sum is compared with the baskets themselves: the other items in an item's baskets are as many as
        the pairs say. One basket too many or too few, or a stretch of other baskets, makes the two differ.
        Raises CestaError if they do.
        """
        pairs = self._items.before(end)
        expected = expected_incidences(self._lines.before(end))
        if wrong := np.count_nonzero(incidences(pairs) != expected):
            raise CestaError(
                f"the pairs of {wrong:,} items are not those of the {end:,} baskets before number {end:,}: "
                f"this is an error of cesta; remove the folder {FOLDER} beside the checkpoint and run again"
            )
        return pairs

    def category_pairs(self, end: int) -> PairCounts:
        """Return the pairs of finest categories in the baskets before ``end``."""
        return self._categories.before(end)

    @step("histories")
    def histories(self, most: int) -> Histories:
        """Return the last ``most`` baskets of every known user, from all baskets; these are not kept."""
        shop = self._shop
        receipts = Receipts(shop.offsets, shop.items, shop.users, shop.times, shop.n_users, most)
        return histories_in_parts(receipts, self._engine)


def _hash(ids: list[str]) -> Names:
    return pd.util.hash_array(np.array(ids, object), categorize=False)


class _Sums:
    """The pairs of one kind. ``names`` are those of its rows, ``of_item`` those that an item counts as."""

    def __init__(
        self,
        countable: Countable,
        names: Names,
        of_item: Names,
        folder: Path | None,
        engine: Engine,
    ):
        self._countable, self._names, self._of_item = countable, names, of_item
        self._folder, self._engine = folder, engine

    def before(self, end: int) -> PairCounts:
        """Add up the stretches that are kept, and count and keep the rest."""
        parts = self._load(end)
        reached = max((stretch.end for stretch in parts), default=0)
        if reached < end or not parts:
            rest = Baskets(reached, end)
            parts[rest] = count_in_parts(self._countable, rest, self._engine)
            self._keep(rest, parts[rest])
        total = add_pairs(list(parts.values()))
        room = max(ROOM * total.size, LEAST_ROOM)
        if len(parts) > MOST_STRETCHES or sum(part.size for part in parts.values()) + total.size > room:
            self._keep(Baskets(0, end), total)
        self._make_room(room)
        return total

    def _load(self, end: int) -> dict[Baskets, PairCounts]:
        """Load stretches that follow one another from basket 0 on, the longest first, up to ``end``."""
        parts: dict[Baskets, PairCounts] = {}
        start = 0
        while start < end and (longest := self._load_longest(start, end)):
            stretch, pairs = longest
            parts[stretch], start = pairs, stretch.end
        return parts

    def _load_longest(self, start: int, end: int) -> tuple[Baskets, PairCounts] | None:
        paths = list(self._folder.glob(f"{start}-*")) if self._folder else []
        ends = sorted({int(path.name.split("-")[1]) for path in paths}, reverse=True)
        for stretch in (Baskets(start, last) for last in ends if start < last <= end):
            path = self._path(stretch)
            if path.exists() and (pairs := self._read(path)):
                return stretch, pairs
        return None

    def _path(self, stretch: Baskets) -> Path:
        """The folder of a stretch, by its place and its content."""
        assert self._folder is not None
        content = hashlib.sha256(f"{VERSION} {self._countable.lines.largest}\n".encode())
        content.update(self._hashes[stretch.start : stretch.end].tobytes())
        return self._folder / f"{stretch.start}-{stretch.end}-{content.hexdigest()[:32]}"

    @cached_property
    def _hashes(self) -> NDArray[np.uint64]:
        """(baskets,) a hash of what each basket holds, whatever the rows of its items."""
        lines = self._countable.lines
        hashes: NDArray[np.uint64] = hash_baskets(lines.offsets, lines.items, self._of_item)
        return hashes

    def _read(self, path: Path) -> PairCounts | None:
        """Map a stretch into memory. None if it is damaged, or another process removed it meanwhile."""
        try:
            if (path / DIGEST).read_text() != _digest(path):
                log.warning("damaged, counted again", stretch=str(path))
                shutil.rmtree(path)
                return None
            pairs, names = (
                PairCounts(*(_map_array(path, name) for name in PairCounts._fields)),
                _map_array(path, "names"),
            )
            os.utime(path)
        except FileNotFoundError:
            return None
        if np.array_equal(names, self._names):
            return pairs
        order = np.argsort(self._names)
        at = order[np.minimum(np.searchsorted(self._names, names, sorter=order), len(order) - 1)]
        rows = np.where(self._names[at] == names, at, 0)  # an item that is gone has no pairs
        return move_rows(pairs, rows, len(self._names)) if (np.diff(rows[rows > 0]) > 0).all() else None

    def _keep(self, stretch: Baskets, pairs: PairCounts) -> None:
        """Write a stretch whole or not at all."""
        if self._folder is None or stretch.start == stretch.end:
            return
        with scratch_folder(self._folder, STAGED) as scratch:
            staged, target = scratch / "stretch", self._path(stretch)
            staged.mkdir()
            for name, array in (*pairs._asdict().items(), ("names", self._names)):
                np.save(staged / f"{name}.npy", array)
            (staged / DIGEST).write_text(_digest(staged))
            flush(staged)
            if not target.exists():
                staged.rename(target)

    def _make_room(self, most: int) -> None:
        """Remove the stretches that were not used for the longest time, down to ``most`` bytes."""
        if self._folder is None:
            return
        with scratch_folder(self._folder, STAGED) as scratch:
            for path in sorted(
                self._folder.glob("[0-9]*"), key=lambda path: path.stat().st_mtime, reverse=True
            ):
                most -= sum(file.stat().st_size for file in path.iterdir())
                if most < 0:
                    path.rename(scratch / path.name)  # whole or missing, for others too


def _digest(folder: Path) -> str:
    return file_record.digest(file_record.describe(folder.glob("*.npy"), folder))


def _map_array(folder: Path, name: str) -> NDArray[Any]:  # of the type that was written
    """Map a file into memory, copied where it is written to: numba compiles nothing for it anew."""
    path = folder / f"{name}.npy"
    empty = path.stat().st_size <= 128  # numpy cannot map an array without elements
    return np.asarray(np.load(path, mmap_mode=None if empty else "c", allow_pickle=False))


@numba.njit(cache=True)
def hash_baskets(offsets, items, of_item):  # type: ignore[no-untyped-def]  # numba infers the types
    """Return the sum of the hashes of each basket's items; ``of_item`` (items,) holds those."""
    hashes = np.zeros(len(offsets) - 1, np.uint64)
    for b in range(len(hashes)):
        for k in range(offsets[b], offsets[b + 1]):
            hashes[b] += of_item[items[k]]
    return hashes
