"""The room of a mirror: its bound, the disk's free space, and which releases go to make some."""

import os
import shutil
from collections.abc import Set
from typing import Final

import structlog

from operations.errors import CestaError
from operations.records.contract import ENSEMBLE
from operations.releases import history
from operations.releases.mirror.holds import Holds
from operations.releases.models.configs import canary_on_disk
from operations.releases.repository import part_models, version_numbers
from operations.releases.stores.folder import FolderRepository

BYTES_VARIABLE: Final = "CESTA_MIRROR_BYTES"
MOST_BYTES: Final = 20_000_000_000  # a hundred releases of the demo, or four of ten million users
LEFT_BYTES: Final = 64 * 2**20  # of the disk, for the records and the rest of the machine

log = structlog.get_logger()


def most_bytes() -> int:
    """The bound of each mirror, from the environment."""
    text = os.environ.get(BYTES_VARIABLE) or str(MOST_BYTES)
    if not text.isdecimal() or not int(text):
        raise CestaError(f"{BYTES_VARIABLE}={text}: write bytes, such as {MOST_BYTES}")
    return int(text)


def make_room(folder: FolderRepository, holds: Holds, release: int, needed: int, published: Set[int]) -> None:
    """Delete releases until ``needed`` bytes of ``release`` fit into the bound and onto the disk.

    Those that are not ``published`` any more go first, then those that were used longest ago. The active, the
    previous and the canary release stay, and every one that a server has loaded. Raises CestaError with both
    numbers if that is not enough.
    """
    sizes = {number: _bytes(folder, number) for number in version_numbers(folder)}
    others = sizes.keys() - {release} - staying(folder)
    for number in sorted(others, key=lambda number: (number in published, holds.used_s(number))):
        if number in published and _shortage(folder, sum(sizes.values()) + needed, needed) == "":
            break
        with holds.unused(number) as is_unused:
            if is_unused:
                _delete(folder, number)
                log.info("release left the mirror", release=number, bytes=sizes.pop(number))
    if shortage := _shortage(folder, sum(sizes.values()) + needed, needed):
        kept = ", ".join(map(str, sorted(sizes.keys() - {release}))) or "none"
        raise CestaError(
            f"release {release} takes {needed / 1e6:,.1f} MB more in {folder}, and {shortage}; releases that "
            f"are served or in use stay there: {kept}"
        )


def staying(folder: FolderRepository) -> set[int]:
    """The releases that a start or a rollback serves."""
    canary = canary_on_disk(folder)
    return {*history.line_of_succession(folder)[-2:], *([canary.release] if canary else [])}


def _shortage(folder: FolderRepository, total: int, needed: int) -> str:
    """Say what is too small, and the way out; "" if there is room."""
    most, free = most_bytes(), shutil.disk_usage(folder.root).free - LEFT_BYTES
    if total > most:
        return f"{BYTES_VARIABLE} allows {most / 1e6:,.1f} MB for all: allow more"
    if needed > free:
        return f"its disk has {max(free, 0) / 1e6:,.1f} MB free: free some, or set CESTA_MIRROR_FOLDER"
    return ""


def _bytes(folder: FolderRepository, release: int) -> int:
    paths = [path for model in _models(folder) for path in (folder / model / str(release)).rglob("*")]
    return sum(path.stat().st_size for path in paths if path.is_file())


def _delete(folder: FolderRepository, release: int) -> None:
    """The manifest goes first: without it the release is not there, whatever is left."""
    for model in _models(folder):
        folder.delete_folder(f"{model}/{release}")


def _models(folder: FolderRepository) -> list[str]:
    return [ENSEMBLE, *part_models(folder)]
