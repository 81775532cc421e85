"""The share of sessions that the canary release answers; the gateway reads it from split.json."""

import json
from pathlib import Path
from typing import Final

from operations.errors import CestaError
from operations.records.atomic import write_file

FILE: Final = "split.json"


def write_split(folder: Path, percent: float) -> None:
    """Give `recommender_canary` this share of sessions: 0 to 100, two decimals.

    Requests with the same key and X-Session-Id go to the same model. A larger share only moves some over.
    """
    if not 0 <= percent <= 100:
        raise CestaError(f"{percent} % of the requests cannot be split off; choose 0 to 100")
    write_file(folder / FILE, json.dumps({"percent": round(percent, 2)}).encode() + b"\n")
