"""Release → the best items of the whole catalog for every user, or for baskets, as parquet files.

A worker computes a partition, and this process writes it whole. A run that is started again believes the
partitions of the same release and questions whose bytes are as they were written.
"""

import csv
import hashlib
import io
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

import numpy as np
import structlog
from pydantic import JsonValue

from ensemble.candidate_sampler.arrays import load_arrays
from export_scripts.durations import stage, step
from export_scripts.engines.engine import open_engine
from export_scripts.engines.interface import Engine
from export_scripts.progress import Progress
from export_scripts.scoring.comparison import compare_partition, sampled, summarise
from export_scripts.scoring.partition import (
    Facts,
    LeftOut,
    Scored,
    Shared,
    read_finished,
    score_partition,
)
from export_scripts.scoring.questions import Kind, Questions, all_users, open_file
from export_scripts.scoring.release import open_release
from export_scripts.scoring.results import (
    COMPARISON,
    LEFT_OUT,
    MANIFEST,
    Results,
    describe_partitions,
    open_results,
    partition_name,
    read_manifest,
)
from export_scripts.settings import Settings
from operations.errors import CestaError
from operations.records.atomic import scratch_folder
from operations.records.file_record import FileRecord
from operations.records.json_record import JsonRecord
from operations.releases.models.files import ReleaseFiles
from operations.releases.stores.store import Repository

MOST_PLACES: Final = 1_000  # more would be most of a shop's catalog for everybody
SCRATCH: Final = "cesta-score-"
SHOWN: Final = 60  # letters of an id

log = structlog.get_logger()


class Wanted(NamedTuple):
    """A choice of who gets the best ``k`` items: all users, or those of a file, or the baskets of one."""

    k: int
    users: Path | str | None = None
    baskets: Path | str | None = None
    compared: int = 0  # questions that are asked both ways


class PartitionRecord(JsonRecord, frozen=True):
    """A partition's file."""

    name: str
    rows: int
    bytes: int
    sha256: str


class ResultManifest(Facts, frozen=True):
    """The record of a whole result; its first keys are those of Facts."""

    WAY_OUT: ClassVar = "delete the result and score again"

    repository: str
    source: str  # "all users", or the file
    items: int  # that the catalog has
    asked: int
    left_out: int
    rows: int
    compared: int  # as many were to be asked both ways
    comparison: Mapping[str, JsonValue] | None = None  # without the single differences, which have a file
    partitions: tuple[PartitionRecord, ...]


@stage("score")
def score(
    settings: Settings, repository: Repository, place: str, wanted: Wanted, release: int | None = None
) -> ResultManifest:
    """Write the result to ``place``, a folder or a bucket, unless it is there; return its manifest.

    Raises CestaError if the release is not verified, if a file of users or baskets cannot be used, or if
    ``k`` is larger than the catalog.
    """
    with open_release(repository, release) as files, _open_questions(settings, files, wanted) as questions:
        items = _check_places(wanted.k, files)
        facts = Facts(
            release=files.release,
            digest=files.digest,
            k=wanted.k,
            kind=questions.kind,
            questions=questions.digest,
            partition_size=questions.size(wanted.k),
        )
        if whole := _find_whole(place, facts, wanted):
            return whole
        shared = Shared(files, facts)
        with open_results(place) as results, open_engine(settings.engine) as engine:
            scored, left_out = _score(engine, results, shared, questions)
            if len(left_out) == questions.total:
                key, reason = left_out[0]
                raise CestaError(
                    f"{questions.source}: none of its {questions.total:,} {questions.kind} can be scored, so "
                    f'nothing was written: the first is "{key[:SHOWN]}", and {reason}; '
                    "write ids as the receipts do"
                )
            if left_out:
                _write_csv(results, LEFT_OUT, ("id", "reason"), left_out)
            comparison = _compare(engine, results, shared, questions, wanted) if wanted.compared else None
            manifest = ResultManifest(
                **vars(facts),
                repository=str(repository),
                source=questions.source,
                items=items,
                asked=questions.total,
                left_out=len(left_out),
                rows=sum(part.rows for part in scored),
                compared=wanted.compared,
                comparison=comparison,
                partitions=tuple(scored),
            )
            results.write(MANIFEST, manifest.json_text().encode())
    return manifest


@contextmanager
def _open_questions(settings: Settings, files: ReleaseFiles, wanted: Wanted) -> Iterator[Questions]:
    if wanted.users and wanted.baskets:
        raise CestaError("--users and --baskets: give one of them")
    place = wanted.users or wanted.baskets
    if place is None:
        yield all_users(load_arrays(files.arrays), files.digest)
        return
    kind: Kind = "users" if wanted.users else "baskets"
    spill = settings.etl.spill or Path(tempfile.gettempdir())
    with (
        scratch_folder(spill, SCRATCH) as folder,
        open_file(kind, str(place), settings.etl.memory, folder) as questions,
    ):
        yield questions


def _check_places(k: int, files: ReleaseFiles) -> int:
    """The number of items of the catalog. Raises CestaError if ``k`` is larger, or than MOST_PLACES."""
    shape = np.load(files.arrays / "popularity.score.npy", mmap_mode="r").shape
    items = int(shape[0]) - 1  # row 0 is the unknown item
    if k > min(items, MOST_PLACES):
        raise CestaError(
            f"--k {k}: release {files.release} has {items:,} items, and {MOST_PLACES:,} are the most for one "
            f"user; give at most {min(items, MOST_PLACES)}"
        )
    return items


def _find_whole(place: str, facts: Facts, wanted: Wanted) -> ResultManifest | None:
    """The manifest of a whole result of the same questions; None if there is none.

    A result whose partitions were changed, deleted or added by hand is not whole.
    """
    found = read_manifest(place)
    if found is None:
        return None
    manifest = ResultManifest.parse(*found)
    same = {**facts.json_object(), "compared": wanted.compared}
    described = manifest.json_object()
    if any(described.get(name) != value for name, value in same.items()):
        return None
    written = {part.name: FileRecord(sha256=part.sha256, bytes=part.bytes) for part in manifest.partitions}
    if describe_partitions(place) != written:
        log.warning("result changed since it was written: scored again", place=place)
        return None
    return manifest


@step("partitions")
def _score(
    engine: Engine, results: Results, shared: Shared, questions: Questions
) -> tuple[list[PartitionRecord], list[LeftOut]]:
    """Write the partitions that are not there, and delete what is none of them."""
    k, size = shared.facts.k, shared.facts.partition_size
    count = -(-questions.total // size)
    records: dict[int, PartitionRecord] = {}
    left_out: dict[int, list[LeftOut]] = {}
    there = set(results.names())
    for name in there - {partition_name(number) for number in range(count)}:
        results.delete(name)

    def enter(part: Scored) -> None:
        records[part.number], left_out[part.number] = _record(part), part.left_out
        progress.advance(part.asked)

    with Progress("score", questions.total) as progress:
        for number in range(count):
            name = partition_name(number)
            if name in there and (part := read_finished(results.read(name), number, shared.facts)):
                enter(part)
        lacking = (asked for asked in questions.partitions(k) if asked.number not in records)
        for part in engine.map(score_partition, lacking, shared):
            results.write(partition_name(part.number), part.content)
            enter(part)
    numbers = range(count)
    return [records[n] for n in numbers], [pair for n in numbers for pair in left_out[n]]


def _record(part: Scored) -> PartitionRecord:
    return PartitionRecord(
        name=partition_name(part.number),
        rows=part.rows,
        bytes=len(part.content),
        sha256=hashlib.sha256(part.content).hexdigest(),
    )


@step("comparison")
def _compare(
    engine: Engine, results: Results, shared: Shared, questions: Questions, wanted: Wanted
) -> dict[str, JsonValue]:
    """Ask a sample of the questions as the server does, too; write the differences, return their counts."""
    chosen = sampled(questions.partitions(wanted.k), questions.total, wanted.compared)
    compared = []
    with Progress("compare", min(wanted.compared, questions.total)) as progress:
        for part in engine.map(compare_partition, chosen, shared):
            compared += part
            progress.advance(len(part))
    found = [(one.key, *difference) for one in compared for difference in one.differences]
    _write_csv(results, COMPARISON, ("id", "place", "item_id", "cause"), found)
    return summarise(compared)


def _write_csv(results: Results, name: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    results.write(name, text.getvalue().encode())
