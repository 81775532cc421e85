"""Which stages are fresh: what each was made from, so that a second build does only what changed."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from export_scripts.settings import SettingsTable

CODE = (Path(__file__).parent, Path(__file__).resolve().parent.parent / "ensemble")


class Ledger:
    """``stages.json``: per stage a key over the code, its settings and the keys of the stages before it."""

    def __init__(self, path: Path):
        self._path = path
        self._keys: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        self._chain = hashlib.sha256(_code().encode())

    def once(self, stage: str, made_from: list[SettingsTable | str], result: Path, work: Callable[[], Path]) -> bool:
        """Run ``work`` unless ``result`` exists and was made from the same; tells whether it ran."""
        for part in made_from:
            self._chain.update((part if isinstance(part, str) else part.model_dump_json()).encode())
        key = self._chain.hexdigest()
        if result.exists() and self._keys.get(stage) == key:
            return False
        self._write({name: k for name, k in self._keys.items() if name != stage})  # a stage that dies is not fresh
        work()
        self._write(self._keys | {stage: key})
        return True

    def _write(self, keys: dict[str, str]) -> None:
        self._keys = keys
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(keys, indent=2) + "\n")
        partial.replace(self._path)


def file_state(*paths: Path | None) -> str:
    """Name, size and time of change of input files: enough to see that they are the same, without reading them."""
    found = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in paths if p is not None and p.exists()]
    return json.dumps(found)


def _code() -> str:
    digest = hashlib.sha256()
    for folder in CODE:
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
