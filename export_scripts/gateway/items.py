"""The catalog as the gateway gives it out: names and categories of all items, in one file with an ETag.

python -m export_scripts.gateway.items artifacts/data artifacts/gateway  # `cesta stack` does it at its start
"""

import gzip
import json
import sys
from pathlib import Path
from typing import Final

from export_scripts.atomic import write_file

FILE: Final = "items.json"


def write_items(data: Path, folder: Path) -> int:
    """etl's catalog in `data` → items.json and items.json.gz in the gateway's folder; how many items."""
    import pandas as pd

    columns = ["name", *json.loads((data / "meta.json").read_text())["category_columns"]]
    catalog = pd.read_parquet(data / "catalog.parquet").iloc[1:]  # row 0 is the unknown item
    rows = catalog.set_index("item_id")[columns].astype(str).to_dict("index")
    content = json.dumps({"items": rows}, ensure_ascii=False, separators=(",", ":")).encode()
    write_file(folder / FILE, content)
    write_file(folder / f"{FILE}.gz", gzip.compress(content, mtime=0))
    return len(rows)


if __name__ == "__main__":
    print(f"{write_items(*map(Path, sys.argv[1:]))} items")
