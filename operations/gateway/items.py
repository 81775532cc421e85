"""The catalog that the gateway serves: names and categories of all items, in one file with an ETag.

python -m operations.gateway.items artifacts/data artifacts/gateway  # `cesta stack` does this when it starts
"""

import gzip
import sys
from pathlib import Path

from pydantic import BaseModel, ValidationError

from operations.errors import CestaError
from operations.outputs import ITEMS
from operations.records.atomic import write_file
from operations.records.disk import FILE_MODE
from operations.records.json_record import first_problem

Items = dict[str, dict[str, str]]  # item id → name and categories, broad to fine


class _Catalog(BaseModel):
    items: Items


def read_items(data: Path) -> Items | None:
    """Return the items that etl wrote to `data`, or None. Raises CestaError if the file is damaged."""
    path = data / ITEMS
    if not path.exists():
        return None
    try:
        return _Catalog.model_validate_json(path.read_bytes()).items
    except ValidationError as error:
        raise CestaError(f'{path} is damaged: {first_problem(error)}; run "cesta etl" again') from None


def write_items(data: Path, folder: Path) -> int:
    """Copy etl's items to items.json and items.json.gz in the gateway's folder; return their number.

    Raises CestaError if etl wrote none.
    """
    items = read_items(data)
    if items is None:
        raise CestaError(f'{data / ITEMS} is missing; run "cesta etl" first')
    content = (data / ITEMS).read_bytes()
    write_file(folder / ITEMS, content, mode=FILE_MODE)
    write_file(folder / f"{ITEMS}.gz", gzip.compress(content, mtime=0), mode=FILE_MODE)
    return len(items)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m operations.gateway.items DATA GATEWAY_FOLDER")
    try:
        print(f"{write_items(Path(sys.argv[1]), Path(sys.argv[2]))} items")
    except CestaError as error:
        sys.exit(str(error))
