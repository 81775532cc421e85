"""The parts of a version that is too large for one request: files, until the last part has come.

One version is collected at a time. A part of a newer one, or a newer change, ends it.
"""

import re
import shutil
from pathlib import Path
from typing import Final

from ensemble.candidate_sampler.live.change_log import Change, encode, read_from
from operations.errors import CestaError
from operations.live.table import MOST_PAIRS, Pair, Version, groups_of
from operations.records.atomic import write_file
from operations.records.disk import FILE_MODE, make_folder

FOLDER: Final = "parts"
MOST_PARTS: Final = 2_000
_NAME: Final = re.compile(r"(\d+)-of-(\d+)\.part")


class Uploads:
    """The parts below the folder of a live table."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER

    def newest(self) -> int:
        """Return the version whose parts are collected, or 0."""
        found = [int(path.name) for path in self._folder.glob("*") if path.name.isdecimal()]
        return max(found, default=0)

    def parts(self, version: int) -> int | None:
        """Return how many parts this version has, once the first has come."""
        names = [_NAME.fullmatch(path.name) for path in (self._folder / str(version)).glob("*.part")]
        return next((int(name[2]) for name in names if name), None)

    def add(self, version: Version, part: int, parts: int) -> int:
        """Keep a part, on disk when this returns; return how many have come. Raises OSError."""
        folder = self._folder / str(version.number)
        make_folder(folder)
        content = encode(Change(version.number, 0.0, version.replace, groups_of(version.pairs)))
        write_file(folder / f"{part}-of-{parts}.part", content, mode=FILE_MODE)
        return sum(1 for _ in folder.glob("*.part"))

    def whole(self, version: int, parts: int) -> Version | None:
        """Return a version whose parts have all come, as one. Raises CestaError if it has too many pairs."""
        folder, pairs, replace = self._folder / str(version), dict[Pair, int](), False
        for part in range(1, parts + 1):
            path = folder / f"{part}-of-{parts}.part"
            changes = read_from(path).changes if path.exists() else []
            if not changes:
                return None
            replace = replace or changes[0].replace
            for group in changes[0].groups:
                pairs.update(dict.fromkeys(((group.store, item) for item in group.names()), group.state))
            if len(pairs) > MOST_PAIRS:  # before they take more memory
                raise CestaError(f"version {version} has over {MOST_PAIRS:,} pairs; send fewer")
        return Version(version, pairs, replace)

    def end(self, until: int) -> None:
        """Delete the parts of all versions up to this one."""
        for path in self._folder.glob("*"):
            if path.name.isdecimal() and int(path.name) <= until:
                shutil.rmtree(path, ignore_errors=True)
