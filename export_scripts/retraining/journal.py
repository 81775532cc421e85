"""``retraining.json`` below --out: what each run of ``cesta retrain`` did, for people and for the next run.

The file is replaced whole after each step. It keeps some room on the disk for itself, so that a run can
still tell that the disk is full.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
from pydantic import BaseModel, Field, ValidationError

from export_scripts.retraining.outcome import Outcome, outcome_of
from operations.errors import CestaError
from operations.gateway.traffic import Counts
from operations.records.atomic import write_file
from operations.records.json_record import first_problem
from operations.records.room import keep_room, write_with_room
from operations.releases.retraining import EndedRun, Moment, Retraining, write_retraining
from operations.releases.stores.store import Repository

NAME: Final = "retraining.json"
ROOM: Final = ".retraining.room"
KEPT: Final = 100  # runs; two years of a weekly loop

log = structlog.get_logger()


class Step(BaseModel, extra="allow"):
    """A step of a run; without an outcome the run was killed in it."""

    name: str
    started_at: str
    seconds: float | None = None
    outcome: str | None = None  # done, fresh or failed; later versions may have more


class Canary(BaseModel, extra="allow", allow_inf_nan=False):
    """A canary release under watch: its share, and the counts of both releases since it began."""

    release: int
    percent: float
    started_s: float  # Unix time
    until_s: float
    sums: Counts = Field(default_factory=dict)
    seen: Counts | None = None  # the counters' values when they were last read


class Figure(BaseModel, extra="allow"):
    """A share of the canary release beside the active one's, and the 95 % interval of the difference."""

    name: str
    canary: float
    active: float
    interval: tuple[float, float]
    allowed: float


class Verdict(BaseModel, extra="allow"):
    """What was found about a canary release."""

    found: str  # as good, worse or undecided
    requests: int  # of the canary release
    objections: list[str]
    figures: list[Figure]


class Run(BaseModel, extra="allow"):
    """One run, from its start to its end. Without an outcome it was killed."""

    started_at: Moment
    ended_at: Moment | None = None
    outcome: str | None = None
    exit_code: int | None = None
    sentence: str | None = None
    active_before: int | None = None
    release: int | None = None
    data: str | None = None  # the fingerprint
    data_until: str | None = None
    digest: str | None = None  # of the run's files
    objections: list[str] = Field(default_factory=list)  # of the gate
    steps: list[Step] = Field(default_factory=list)
    canary: Canary | None = None
    verdict: Verdict | None = None
    retired: list[int] = Field(default_factory=list)


class _File(BaseModel, extra="allow"):
    runs: list[Run] = Field(default_factory=list)


class Journal:
    """Records one run in the folder ``root``, and tells the servers on ``repository`` about it."""

    def __init__(self, root: Path, repository: Repository, every_s: float) -> None:
        self._root, self._repository, self._every_s = root, repository, every_s
        self._file = read_journal(root)
        self.run = Run(started_at=_now())

    @property
    def earlier(self) -> list[Run]:
        """The runs before this one, oldest first."""
        return [run for run in self._file.runs if run is not self.run]

    def of_this_release(self) -> list[Run]:
        """The earlier runs with the same release. A number alone names others in another repository."""
        same = (self.run.release, self.run.digest)
        return [run for run in self.earlier if (run.release, run.digest) == same]

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record the beginning and the end of the run, whatever ends it."""
        keep_room(self._root / ROOM)
        self._file.runs = [*self._file.runs, self.run][-KEPT:]
        self.save()
        try:
            yield
        except BaseException as error:
            outcome = outcome_of(error)
            self.end(outcome, str(error) or outcome.word)
            raise
        finally:
            keep_room(self._root / ROOM)

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Record a step of the run."""
        step, begun = Step(name=name, started_at=_now()), time.monotonic()
        self.run.steps.append(step)
        self.save()
        self._tell(name)
        try:
            yield step
        except BaseException:
            step.outcome = "failed"
            raise
        finally:
            step.outcome = step.outcome or "done"
            step.seconds = round(time.monotonic() - begun, 3)
            self.save()

    def end(self, outcome: Outcome, sentence: str) -> None:
        """Record how the run ended. Trouble with either file is logged: it must not hide the outcome."""
        run = self.run
        run.ended_at, run.outcome, run.exit_code, run.sentence = _now(), outcome.word, outcome.code, sentence
        try:
            self.save()
        except OSError as error:
            log.warning("run not recorded", reason=str(error))
        self._tell(None)

    def save(self) -> None:
        """Replace the file, on a full disk by means of its room."""
        content = self._file.model_dump_json(indent=2, exclude_none=True).encode() + b"\n"
        write_with_room(self._root / ROOM, lambda: write_file(self._root / NAME, content))

    def _tell(self, step: str | None) -> None:
        ended = [run for run in self._file.runs if run.outcome]
        state = Retraining(
            every_s=self._every_s,
            started_at=self.run.started_at,
            step=step,
            last=_ended(ended[-1]) if ended else None,
        )
        try:
            write_retraining(self._repository, state)
        except (CestaError, OSError) as error:
            log.warning("servers not told of the run", reason=str(error))


def read_journal(root: Path) -> _File:
    """The runs so far. Raises CestaError for a file that is damaged."""
    path = root / NAME
    if not path.exists():
        return _File()
    try:
        return _File.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise CestaError(
            f"{path} is damaged: {first_problem(error)}; delete it, and the loop begins a new one"
        ) from None


def _ended(run: Run) -> EndedRun:
    return EndedRun(
        started_at=run.started_at,
        ended_at=run.ended_at or run.started_at,
        outcome=run.outcome or "",
        exit_code=run.exit_code or 0,
        sentence=_without_receipts(run.sentence or ""),
        release=run.release,
    )


def _without_receipts(sentence: str) -> str:
    """The lines that quote no cell of a receipt, which may name a customer: shops can read the status."""
    return "\n".join(line for line in sentence.split("\n") if not line.lstrip().startswith("row "))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
