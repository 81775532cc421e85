"""The share of sessions that the canary release answers; the gateway reads it from split.json."""

import json
from pathlib import Path
from typing import Final

from operations.errors import CestaError
from operations.records.atomic import overwrite, write_file
from operations.records.disk import FILE_MODE, is_full

FILE: Final = "split.json"


def write_split(folder: Path, percent: float) -> None:
    """Give `recommender_canary` this share of sessions: 0 to 100, two decimals.

    Requests with the same key and X-Session-Id go to the same model. A larger share only moves some over.
    """
    if not 0 <= percent <= 100:
        raise CestaError(f"{percent} % of the requests cannot be split off; choose 0 to 100")
    path, content = folder / FILE, json.dumps({"percent": round(percent, 2)}).encode()
    try:
        write_file(path, content + b"\n", mode=FILE_MODE)
    except OSError as error:
        if not (is_full(error) and path.exists()):
            raise
        overwrite(path, content.ljust(path.stat().st_size - 1) + b"\n")  # a canary ends on a full disk, too
