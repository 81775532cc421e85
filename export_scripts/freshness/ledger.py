"""Which stages are fresh: what each was made from, so that a second build does only what changed."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from export_scripts.settings import SettingsTable
from operations.records.atomic import write_file
from operations.records.contract import MODEL_REPOSITORY
from operations.records.manifest import sha256

ROOT = Path(__file__).resolve().parents[2]
CODE = (ROOT / "export_scripts", ROOT / "operations" / "records", ROOT / "ensemble")


class Ledger:
    """``stages.json``: per stage a key over code, contract, its settings and the stages before it, and the
    SHA-256 of its result, so that a result that a stage run by hand has replaced is not taken for its own."""

    def __init__(self, path: Path):
        self._path = path
        self._done = _read(path)
        self._chain = hashlib.sha256(code_digest().encode())

    def once(
        self, stage: str, made_from: list[SettingsTable | str], result: Path, work: Callable[[], Path]
    ) -> bool:
        """Run ``work`` unless the file ``result`` was made from the same; tells whether it ran."""
        for part in made_from:
            self._chain.update((part if isinstance(part, str) else part.model_dump_json()).encode())
        key = self._chain.hexdigest()
        if result.exists() and self._done.get(stage) == [key, sha256(result)]:
            return False
        others = {name: made for name, made in self._done.items() if name != stage}
        if stage in self._done:
            self._write(others)  # a stage that dies on the way is not fresh
        work()
        self._write(others | {stage: [key, sha256(result)]})
        return True

    def _write(self, done: dict[str, list[str]]) -> None:
        self._done = done
        write_file(self._path, (json.dumps(done, indent=2) + "\n").encode())


def file_state(*paths: Path | None) -> str:
    """Name, size and time of change of input files: enough to see that they are the same."""
    found = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in paths if p is not None and p.exists()]
    return json.dumps(found)


def _read(path: Path) -> dict[str, list[str]]:
    """What the file holds; nothing if it is missing or damaged: then nothing is known to be fresh."""
    try:
        done = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return done if isinstance(done, dict) else {}


def code_digest() -> str:
    """SHA-256 over the pipeline's and the sampler's sources and the contract."""
    digest = hashlib.sha256()
    for path in _sources():
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _sources() -> Iterator[Path]:
    for folder in CODE:
        yield from sorted(folder.rglob("*.py"))
    yield from sorted(MODEL_REPOSITORY.glob("*/config.pbtxt"))
