"""The catalog that the gateway serves: names and categories of all items, in one file with an ETag.

python -m operations.gateway.items artifacts/data artifacts/gateway  # `cesta stack` does this when it starts
"""

import gzip
import json
import sys
from pathlib import Path
from typing import Final

from operations.errors import CestaError
from operations.records.atomic import write_file

FILE: Final = "items.json"

Items = dict[str, dict[str, str]]  # item id → name and categories, broad to fine


def read_items(data: Path) -> Items | None:
    """Return the items that etl wrote to `data`, or None. Raises CestaError if the file is damaged."""
    path = data / FILE
    if not path.exists():
        return None
    try:
        items: Items = json.loads(path.read_text(encoding="utf-8"))["items"]
    except (ValueError, KeyError) as error:
        raise CestaError(f'{path} is damaged ({error}); run "cesta etl" again') from None
    return items


def write_items(data: Path, folder: Path) -> int:
    """Copy etl's items to items.json and items.json.gz in the gateway's folder; return their number.

    Raises CestaError if etl wrote none.
    """
    items = read_items(data)
    if items is None:
        raise CestaError(f'{data / FILE} is missing; run "cesta etl" first')
    content = (data / FILE).read_bytes()
    write_file(folder / FILE, content)
    write_file(folder / f"{FILE}.gz", gzip.compress(content, mtime=0))
    return len(items)


if __name__ == "__main__":
    try:
        print(f"{write_items(*map(Path, sys.argv[1:]))} items")
    except CestaError as error:
        sys.exit(str(error))
