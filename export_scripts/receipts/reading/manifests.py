"""Lists of files as data warehouses write them: one address on a line, or the JSON of an UNLOAD."""

from __future__ import annotations

import json
import posixpath
from pathlib import PurePosixPath

from export_scripts.receipts.problems import Problem

ENDINGS = ("manifest", "manifest.json", "manifest.txt")  # of the name of the list


def is_manifest(place: str) -> bool:
    """Tell whether the name of a file or an object is that of a list of files."""
    return place.endswith(ENDINGS)


def files_of(place: str, content: bytes) -> dict[str, int | None] | Problem:
    """Return the files that the list at ``place`` names, in the order of their names, with their bytes.

    A relative name is below the folder of the list. Bytes are None if the list does not tell them. A list in
    a bucket names no file of this machine: who may write there need not be one who may read here.
    """
    try:
        text = content.decode("utf-8-sig")
        sizes = _of_unload(text) if text.lstrip().startswith("{") else dict.fromkeys(text.splitlines())
    except (ValueError, TypeError, LookupError, RecursionError):
        what = 'it is no list of files: one address on a line, or {"entries": [{"url": "s3://…"}]}'
        return Problem(place, what, "unload the table again with a manifest, or write one")
    chosen = {_below(place, name.strip()): size for name, size in sizes.items() if name.strip()}
    local = [name for name in sorted(chosen) if "://" not in name]
    if "://" in place and local:
        what = f"it lies in a bucket and names {local[0]}, a file of this machine"
        return Problem(place, what, "name objects of a bucket, or copy the manifest to this machine")
    return dict(sorted(chosen.items())) or Problem(place, "it names no file", "check what was unloaded")


def _of_unload(text: str) -> dict[str, int | None]:
    sizes: dict[str, int | None] = {}
    for entry in json.loads(text)["entries"]:
        url, size = entry["url"], (entry.get("meta") or {}).get("content_length")
        if not isinstance(url, str) or not isinstance(size, int | None):
            raise TypeError(entry)
        sizes[url] = size
    return sizes


def _below(place: str, name: str) -> str:
    if "://" in name or name.startswith("/"):
        return name
    scheme, separator, path = place.rpartition("://")
    joined = str(PurePosixPath(path).parent / name)
    return f"{scheme}{separator}{posixpath.normpath(joined) if separator else joined}"
