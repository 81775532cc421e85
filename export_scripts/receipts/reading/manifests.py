"""Lists of files as data warehouses write them: one address on a line, or the JSON of an UNLOAD."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

from export_scripts.receipts.problems import Problem

ENDINGS = ("manifest", "manifest.json", "manifest.txt")  # of the name of the list


def is_manifest(place: str) -> bool:
    """Tell whether the name of a file or an object is that of a list of files."""
    return place.endswith(ENDINGS)


def files_of(place: str, content: bytes) -> list[str] | Problem:
    """Return the files that the list at ``place`` names, each once, in the order of their names.

    A relative name is below the folder of the list.
    """
    try:
        text = content.decode("utf-8-sig")
        names = _of_unload(text) if text.lstrip().startswith("{") else text.splitlines()
    except (ValueError, TypeError, LookupError, RecursionError):
        what = 'it is no list of files: one address on a line, or {"entries": [{"url": "s3://…"}]}'
        return Problem(place, what, "unload the table again with a manifest, or write one")
    chosen = {_below(place, name.strip()) for name in names if name.strip()}
    return sorted(chosen) or Problem(place, "it names no file", "check what was unloaded")


def _of_unload(text: str) -> list[str]:
    urls = [entry["url"] for entry in json.loads(text)["entries"]]
    if not all(isinstance(url, str) for url in urls):
        raise ValueError(urls)
    return urls


def _below(place: str, name: str) -> str:
    if "://" in name or name.startswith("/"):
        return name
    scheme, separator, path = place.rpartition("://")
    return f"{scheme}{separator}{PurePosixPath(path).parent / name}"
