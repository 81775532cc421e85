"""The files of a release for each further part: its modules, and those of the sampler's arrays that it reads.

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
    """A part's modules, the beginnings of the names of the arrays that it reads, and a package it shares."""

    code: Path
    arrays: tuple[str, ...]
    shared: Path | None = None  # its copy is a folder within the part's


PARTS: Final = {
    ITEM_LISTS: Part(
        ROOT / "ensemble" / "item_lists",
        (
            *("item_ids.blob", "item_ids.offsets", "category_names.blob", "category_names.offsets"),
            *("popularity.", "categories.", "neighbours.", "retrieval.items", "names."),
        ),
        ROOT / "ensemble" / "candidate_sampler" / "live",
    ),
}


def part_code(part: str) -> dict[str, file_record.FileRecord]:
    """A part's modules by name."""
    sources = _sources(part)
    described = {name: file_record.describe([path], path.parent) for name, path in sources.items()}
    return {name: described[name][path.name] for name, path in sources.items()}


def _sources(part: str) -> dict[str, Path]:
    """Each module's name in a release → its file."""
    code, _, shared = PARTS[part]
    sources = {path.name: path for path in sorted(code.glob("*.py"))}
    if shared:
        sources |= {f"{shared.name}/{path.name}": path for path in sorted(shared.glob("*.py"))}
    return sources


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
    for name, source in _sources(part).items():
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy2(source, folder / name)
    for name in array_names(part, files):
        (folder / name).parent.mkdir(exist_ok=True)
        _link(run / name, folder / name)


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)
