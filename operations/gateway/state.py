"""The files that nginx includes and cesta rewrites: keys with their rates, and the split between two models.

nginx reads them again when it reloads. The folder is mounted into the gateway's container.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from operations.errors import CestaError
from operations.gateway.keys import Key, lock_folder, read_keys
from operations.records.atomic import write_file

BATCH: Final = 32  # queries; every batch request counts as this many
_WRITTEN = "# Written by cesta; changes are lost.\n"


def write_state(folder: Path) -> None:
    """Write the files that nginx includes from keys.json. The split stays; by default there is none."""
    with lock_folder(folder):
        _write_keys(folder)
        if not (folder / "split.conf").exists():
            _write_split(folder, 0)


def write_split(folder: Path, percent: float) -> None:
    """Give `recommender_canary` this share of requests (0 to 100, two decimals) from the next reload on.

    Requests with the same key and X-Session-Id go to the same model. A larger share only moves some over.
    """
    if not 0 <= percent <= 100:
        raise CestaError(f"{percent} % of the requests cannot be split off; choose 0 to 100")
    with lock_folder(folder):
        _write_split(folder, percent)


def _write_keys(folder: Path) -> None:
    """Write maps from a key's hash to its name and role, and one zone for each rate that occurs."""
    keys = read_keys(folder)
    rates = sorted({key.rate for key in keys})
    names = _map("$key_hash", "$key_name", [(key.sha256, key.name) for key in keys])
    roles = _map("$key_hash", "$key_role", [(key.sha256, key.role) for key in keys])
    _write(folder / "keys.conf", names + roles + "".join(_zones(keys, rate) for rate in rates))
    _write(folder / "rate.conf", "".join(f"limit_req zone=rate_{r} burst={r} nodelay;\n" for r in rates))
    batches = (f"limit_req zone=batch_{r} burst={max(4, r // BATCH)} nodelay;\n" for r in rates)
    _write(folder / "rate.batch.conf", "".join(batches))


def _write_split(folder: Path, percent: float) -> None:
    percent = round(percent, 2)  # as nginx does; it refuses a line of 0.00%, and so every reload
    share = f"    {percent:.2f}% recommender_canary;\n" if 0 < percent < 100 else ""
    rest = "recommender_canary" if percent == 100 else "recommender"
    _write(folder / "split.conf", f'split_clients "$key_name:$session" $model {{\n{share}    * {rest};\n}}\n')


def _zones(keys: Sequence[Key], rate: int) -> str:
    """Limit the keys of one rate. Other keys have an empty $rate_…, which nginx does not count."""
    variable = f"$rate_{rate}"
    # A key may be called "default" or "include", which are keywords of maps. nginx removes both backslashes.
    pairs = [(f"\\\\{key.name}", key.name) for key in keys if key.rate == rate]
    limited = _map("$key_name", variable, pairs)
    per_minute = max(1, round(60 * rate / BATCH))
    return (
        f"{limited}limit_req_zone {variable} zone=rate_{rate}:1m rate={rate}r/s;\n"
        f"limit_req_zone {variable} zone=batch_{rate}:1m rate={per_minute}r/m;\n"
    )


def _map(source: str, target: str, pairs: Sequence[tuple[str, str]]) -> str:
    lines = "".join(f"    {value} {result};\n" for value, result in pairs)
    return f'map {source} {target} {{\n    default "";\n{lines}}}\n'


def _write(path: Path, content: str) -> None:
    write_file(path, (_WRITTEN + content).encode())
