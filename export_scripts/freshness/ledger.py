"""The ledger of a build: what each stage's result was made from. A second build runs only what changed."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from operations.records.atomic import write_file
from operations.records.file_record import sha256
from operations.settings import SettingsTable

Part = SettingsTable | Path | str  # settings by their values, a file by its content, a digest


class Ledger:
    """``stages.json``: for each stage a key over what its result was made from, and the result's SHA-256.

    The SHA-256 tells the stage's own result from one that was put there since, for example by running the
    stage by hand with other settings.
    """

    def __init__(self, path: Path):
        self._path = path
        self._done = _read(path)

    def once(self, stage: str, made_from: Sequence[Part], result: Path, work: Callable[[], Path]) -> bool:
        """Run ``work``, which writes ``result``, unless the stage did so from the same; tell whether it ran.

        ``made_from`` names everything that the stage reads: the digest of its code, its settings, its input
        files. An earlier stage that runs again and writes the same file makes no later stage run.
        """
        if self.is_fresh(stage, made_from, result):
            return False
        key = _key(made_from)
        others = {name: record for name, record in self._done.items() if name != stage}
        if stage in self._done:
            self._write(others)  # a stage that dies on the way is not fresh
        work()
        self._write(others | {stage: [key, sha256(result)]})
        return True

    def is_fresh(self, stage: str, made_from: Sequence[Part], result: Path) -> bool:
        """Tell whether the stage has made ``result`` from the same."""
        return result.exists() and self._done.get(stage) == [_key(made_from), sha256(result)]

    def _write(self, done: dict[str, list[str]]) -> None:
        self._done = done
        write_file(self._path, (json.dumps(done, indent=2) + "\n").encode())


def _key(made_from: Sequence[Part]) -> str:
    return hashlib.sha256(json.dumps([_state(part) for part in made_from]).encode()).hexdigest()


def _state(part: Part) -> str:
    if isinstance(part, SettingsTable):
        return part.model_dump_json()
    return sha256(part) if isinstance(part, Path) else part


def _read(path: Path) -> dict[str, list[str]]:
    """The content of the file; nothing if it is missing or damaged, so that every stage runs."""
    try:
        done = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return done if isinstance(done, dict) else {}
