"""The categories of the active release, in a file that the gateway serves with an ETag."""

import gzip
import json
from pathlib import Path
from typing import Final

from operations.records.atomic import write_file
from operations.records.disk import FILE_MODE
from operations.releases.categories import category_sizes
from operations.releases.repository import read_release
from operations.releases.stores.store import Repository

FILE: Final = "categories.json"


def write_categories(repository: Repository, release: int, folder: Path) -> bool:
    """Write the categories of a release, and the same compressed. Return False if its arrays are damaged.

    Then the gateway has no file, because that of another release would mislead. Raises CestaError if the
    repository has no such release.
    """
    sizes = category_sizes(repository, read_release(repository, release))
    if sizes is None:
        for name in (FILE, f"{FILE}.gz"):
            (folder / name).unlink(missing_ok=True)
        return False
    listed = [{"name": name, "items": sizes[name]} for name in sorted(sizes)]
    content = json.dumps({"release": release, "categories": listed}, ensure_ascii=False).encode()
    write_file(folder / FILE, content, mode=FILE_MODE)
    write_file(folder / f"{FILE}.gz", gzip.compress(content, mtime=0), mode=FILE_MODE)
    return True
