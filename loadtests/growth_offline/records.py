"""The kept figures: one record for each measured size, whenever it was measured."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from loadtests.running.environments import ROOT

RESULTS: Final = ROOT / "docs" / "measurements" / "growth-offline.json"

Record = dict[str, Any]  # of one size, as __main__.py measures it
Records = Mapping[str, Record]  # by name of the size


def keep(results: Path, name: str, record: Record) -> None:
    """Replace the record of one size among the kept ones."""
    kept: dict[str, Record] = read_records(results) | {name: record}
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def read_records(results: Path) -> dict[str, Record]:
    """Read the kept records by size; none if nothing was measured yet."""
    if not results.exists():
        return {}
    records: dict[str, Record] = json.loads(results.read_text(encoding="utf-8"))
    return records
