"""The gateway's part of the key in Triton's response cache: a text that changes with the live tables."""

import json
from pathlib import Path
from typing import Final

from operations.gateway.control import announce
from operations.records.atomic import write_file
from operations.records.disk import FILE_MODE

FILE: Final = "live.json"


def tell_live_key(folder: Path, key: str) -> None:
    """Have the gateway send ``key`` as the input `live` from now on.

    A gateway that does not run now reads the file when it starts; one that cannot be told, within a second.
    Raises OSError, and CestaError if the gateway cannot read its folder.
    """
    write_file(folder / FILE, json.dumps({"live": key}).encode() + b"\n", mode=FILE_MODE)
    announce(folder)
