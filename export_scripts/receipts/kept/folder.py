"""The folder OUT/parts: what earlier runs of etl have read of files, so that a run reads only the new ones.

A part is a file `SOURCE-READING-CONTENT.parquet`: digests of the file that was read, of all else that its
reading depends on, and of the part itself. So a damaged part is not believed, a changed file has another
part, and two files with the same content share one. A run holds the folder alone. It writes its parts beside
the others and renames them at its end. Parts that this run did not use go.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Final

import pyarrow as pa

from export_scripts.receipts.kept.digests import DIGITS, Digests, digest_of_code, short_digest
from export_scripts.receipts.kept.part import Made, PartFacts, Reading, Task, make_part, read_facts
from export_scripts.receipts.problems import Problems
from export_scripts.receipts.reading.parts import Part
from export_scripts.receipts.reading.source import Findings, Source
from export_scripts.settings import EngineSettings
from operations.errors import CestaError
from operations.records.atomic import flush, scratch_folder
from operations.records.file_record import sha256

FOLDER: Final = "parts"  # beside data
STAGED: Final = ".partial-"
DIGESTS: Final = "files.json"  # in it: the digests of local files
LEAST_FOR_WORKERS: Final = 1 << 25  # bytes of files; to start two workers takes as long as to read these

Report = Callable[[float], None]


class Parts:
    """The parts of this run and, with a `folder`, of earlier ones."""

    def __init__(
        self,
        folder: Path | None = None,
        engine: EngineSettings | None = None,
        stack: ExitStack | None = None,
    ) -> None:
        """`stack` lets go of the folder."""
        self._folder, self._engine = folder, engine
        self._stack, self._scratch = stack or ExitStack(), Path()
        self._handle: int | None = None  # of the folder, once it is held
        self._digests = Digests(folder and folder / DIGESTS)
        self._new: dict[str, Part] = {}  # name → the file that was read
        self._used: set[str] = set()

    @property
    def are_kept(self) -> bool:
        return self._folder is not None

    def hold(self, part: Part) -> bool:
        """Is there a part of this file, maybe of other columns?"""
        return self._folder is not None and self._digests.of(part) in self._kept

    def of(
        self, source: Source, columns: Sequence[str], scratch: Path, problems: Problems, report: Report
    ) -> list[tuple[int, Path, PartFacts]] | None:
        """Return the parts of the source's files that have rows, each with the index of its file.

        Reads what no earlier run has read; that goes to `scratch` if nothing is kept. Returns None if the
        source cannot be used, with a problem added.
        """
        self._scratch = scratch
        names = [self._name(source, index, columns) for index in range(len(source.parts))]
        files: dict[str, int] = {}  # name → the first file of this content
        for index, name in enumerate(names):
            files.setdefault(name, index)
        paths = {name: path for name in files if (path := self._find(name))}
        tasks = [Task(index, name) for name, index in files.items() if name not in paths]
        made: dict[str, Made] = {}
        of_tasks = self._make(source, columns, tasks, report) if tasks else ()
        for task, one in zip(tasks, of_tasks, strict=True):
            if one.problem:
                problems.add(one.problem)
                return None
            made[task.name] = one
            path = self._staged / task.name
            if one.content is not None:
                path.write_bytes(one.content)
            if one.findings.rows:
                paths[task.name] = path
                self._new[task.name] = source.parts[task.file]
        facts = {name: read_facts(path) for name, path in paths.items()}
        found = Findings()
        for index, name in enumerate(names):
            found.join(made[name].findings if name in made else facts[name].findings(), index)
        source.report(found, problems)
        self._used.update(path.name for path in paths.values())
        return [(index, paths[name], facts[name]) for index, name in enumerate(names) if name in paths]

    def keep(self) -> None:
        """Keep the new parts of files that are still the same, and remove the parts that were not used."""
        if self._folder is None or not self._folder.exists():
            return
        flush(self._staged)
        for name, part in self._new.items():
            if part.is_unchanged():
                staged = self._staged / name
                kept = self._folder / f"{name}-{sha256(staged)[:DIGITS]}.parquet"
                staged.rename(kept)
                self._used.add(kept.name)
        for path in self._folder.glob("*.parquet"):
            if path.name not in self._used:
                path.unlink()
        if self._used:
            self._digests.write()
        else:
            (self._folder / DIGESTS).unlink(missing_ok=True)
        os.fsync(self._hold(self._folder))

    def close(self) -> None:
        """Remove the folder if it is empty: a failed run leaves nothing."""
        if self._folder is not None:
            with suppress(OSError):
                self._folder.rmdir()

    def _hold(self, folder: Path) -> int:
        """Return a handle of the folder, which from now on is this run's alone."""
        if self._handle is None:
            folder.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(folder, os.O_RDONLY)
            self._stack.callback(os.close, self._handle)
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise CestaError(
                    f"another etl writes to {folder.parent}; "
                    "wait for its end, or name another folder with --out"
                ) from None
        return self._handle

    @cached_property
    def _staged(self) -> Path:
        """The place for new parts."""
        if self._folder is None:
            return self._scratch
        self._hold(self._folder)
        return self._stack.enter_context(scratch_folder(self._folder, STAGED))

    @cached_property
    def _kept(self) -> dict[str, list[Path]]:
        """The parts of earlier runs by the digest of the file that was read."""
        kept: dict[str, list[Path]] = {}
        if self._folder is None:
            return kept
        self._hold(self._folder)  # before a part is believed: another run removes what it does not use
        for path in self._folder.glob("*.parquet"):
            kept.setdefault(path.name.partition("-")[0], []).append(path)
        return kept

    def _name(self, source: Source, index: int, columns: Sequence[str]) -> str:
        if self._folder is None:
            return f"{source.kind}-{id(source)}-{index}.parquet"
        part = source.parts[index]
        kinds = [(name, str(source.schema.field(name).type)) for name in columns]
        reading = [self._code_digest, pa.__version__, source.kind, source.schema.names, kinds, part.keys]
        return f"{self._digests.of(part)}-{short_digest(json.dumps(reading))}"

    @cached_property
    def _code_digest(self) -> str:
        return digest_of_code()

    def _find(self, name: str) -> Path | None:
        """Return the part of this name if its content is what was written."""
        for path in self._kept.get(name.partition("-")[0], ()):
            if path.name.startswith(f"{name}-") and path.stem.endswith(sha256(path)[:DIGITS]):
                return path
        return None

    def _make(
        self, source: Source, columns: Sequence[str], tasks: Sequence[Task], report: Report
    ) -> Iterator[Made]:
        """Read the files: here if they are few, else by the workers of the engine."""
        # Here, since a run without new files needs no libraries of processes.
        from export_scripts.engines.engine import LOCAL, open_engine

        sizes = [source.parts[task.file].size for task in tasks]
        total, before = max(sum(sizes), 1), 0
        chosen, one_by_one = self._engine, len(tasks) < 2 or sum(sizes) < LEAST_FOR_WORKERS
        if chosen is None or one_by_one or (chosen.name == LOCAL and chosen.workers == 1):
            reading = Reading(source, list(columns), self._staged)
            for size, task in zip(sizes, tasks, strict=True):
                yield make_part(reading, task, partial(_tell, report, before, total))
                before += size
            return
        sends = chosen.name != LOCAL  # the workers of other machines do not see the folder
        reading = Reading(source, list(columns), None if sends else self._staged)
        with open_engine(chosen) as engine:
            for size, made in zip(sizes, engine.map(make_part, tasks, reading), strict=True):
                before += size
                report(before / total)
                yield made


def _tell(report: Report, before: int, total: int, size: int) -> None:
    report((before + size) / total)


@contextmanager
def open_parts(out: Path, is_kept: bool, engine: EngineSettings) -> Iterator[Parts]:
    """Yield the parts in the folder `out`, which are kept if the block ends without an error."""
    folder = out / FOLDER if is_kept else None
    with ExitStack() as stack:
        parts = Parts(folder, engine, stack)
        stack.callback(parts.close)  # after the lock and the new parts are gone
        yield parts
        parts.keep()
