"""What a release holds for each further part: its modules, and those of the sampler's arrays that it reads.

Each part has its own copy, because Triton brings a part's folder from an object store by itself.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from operations.errors import CestaError
from operations.records import file_record, manifest
from operations.records.contract import ITEM_LISTS
from operations.shipped import ROOT


class Part(NamedTuple):
    """Where a part's modules lie, and how the names of the arrays begin that it reads."""

    code: Path
    arrays: tuple[str, ...]


PARTS: Final = {
    ITEM_LISTS: Part(
        ROOT / "ensemble" / "item_lists",
        (
            *("item_ids.blob", "item_ids.offsets", "category_names.blob", "category_names.offsets"),
            *("popularity.", "categories.", "neighbours.", "retrieval.items", "names."),
        ),
    ),
}


def part_code(part: str) -> dict[str, file_record.FileRecord]:
    """A part's modules by name."""
    code = PARTS[part].code
    return file_record.describe(code.glob("*.py"), code)


def part_codes(parts: Iterable[str]) -> dict[str, str]:
    """The digest of each part's modules."""
    return {part: file_record.digest(part_code(part)) for part in parts}


def check_part_code(run: manifest.RunManifest) -> None:
    """Raise CestaError if the golden answers of a run's parts were made with other code than is here."""
    made, ours = run.part_code or {}, part_codes(run.contract.parts or {})
    if changed := sorted(part for part in ours if made.get(part) != ours[part]):
        raise CestaError(f"{changed[0]} was changed since the export; {run.WAY_OUT}")


def array_names(part: str, files: Iterable[str]) -> list[str]:
    """The names among ``files`` of a run, such as ``arrays/popularity.order.npy``, that a part reads."""
    begin = tuple(f"arrays/{name}" for name in PARTS[part].arrays)
    return sorted(name for name in files if name.startswith(begin))


def copy_part(part: str, run: Path, files: Iterable[str], folder: Path) -> None:
    """Copy a part's modules, and its arrays among the ``files`` of ``run``, into ``folder``.

    The arrays are hard links where the disk allows them, so that processes share their pages.
    """
    folder.mkdir()
    for name in part_code(part):
        shutil.copy2(PARTS[part].code / name, folder / name)
    for name in array_names(part, files):
        (folder / name).parent.mkdir(exist_ok=True)
        _link(run / name, folder / name)


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)
