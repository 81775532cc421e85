"""The operations of /admin: changes that run in a thread of their own and are asked about by their id.

They are a file in the gateway's folder, so that a caller who repeats an Idempotency-Key learns how his
operation went, also after a restart of the supervisor. Those that run and the last KEPT are kept.

Several may run: a rollback must not wait for the trial of a promotion. The repository's lock keeps them
apart. Of one kind few may, because each promotion tries its release on a server of its own.
"""

import hashlib
import json
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import structlog

from operations.errors import BeingChanged, CestaError
from operations.records.atomic import write_file
from operations.records.disk import explain
from operations.releases.switch import Steps
from operations.supervisor.threads import run_in_thread

log = structlog.get_logger()

FILE: Final = "operations.json"
KEPT: Final = 100
AT_ONCE: Final = 4  # of one kind

JsonObject = dict[str, Any]
Work = Callable[[Steps], JsonObject]


class State(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # and undone
    INTERRUPTED = "interrupted"  # the supervisor ended meanwhile; the list of releases tells what is active


class KeyReused(CestaError):  # noqa: N818 - the name itself says what is wrong
    """An Idempotency-Key that came before with another request."""


@dataclass(frozen=True)
class Caller:
    """Who asks: the gateway's key, and the request's Idempotency-Key or ""."""

    who: str
    key: str = ""


@dataclass(frozen=True)
class Asked:
    """What a caller asked for. ``key`` is the request's Idempotency-Key, or "" without one."""

    what: str
    caller: str
    request: JsonObject  # path parameters and body
    key: str = ""

    def fingerprint(self) -> str:
        text = json.dumps([self.what, self.request], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class Operation:
    """One change that was asked for, and how far it is."""

    id: str
    what: str
    by: str
    request: JsonObject
    started_at: str
    state: str = State.RUNNING
    ended_at: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)  # by step, once it has ended
    result: JsonObject | None = None
    failure: JsonObject | None = None  # status, code of problems.py and sentence
    key: str = ""
    fingerprint: str = ""
    steps: Steps = field(default_factory=Steps, repr=False)

    def describe(self) -> JsonObject:
        """Return the answer of ``GET /admin/operations/{id}``."""
        running = self.state == State.RUNNING
        seconds = dict(self.steps.seconds) if running else self.seconds
        return {
            "id": self.id,
            "what": self.what,
            "request": self.request,
            "by": self.by,
            "state": str(self.state),
            "step": self.steps.current or None if running else None,
            "steps": [{"step": step, "seconds": took_s} for step, took_s in seconds.items()],
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "result": self.result,
            "failure": self.failure,
        }


class OperationLog:
    """Runs operations and keeps the last ones in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._lock = threading.Lock()
        self._operations = {operation.id: operation for operation in _read(self._path)}

    def find(self, id_: str) -> Operation | None:
        return self._operations.get(id_)

    def list(self) -> list[Operation]:
        """Return the operations, newest first."""
        return list(reversed(self._operations.values()))

    def start(self, asked: Asked, work: Work, check: Callable[[], object] = lambda: None) -> Operation:
        """Start an operation, or return the one that the same Idempotency-Key has started.

        ``check`` raises CestaError for a change that makes no sense; then nothing is started.

        Raises KeyReused for another request with the same key, and BeingChanged if AT_ONCE of the kind run.
        """
        with self._lock:
            if known := self._find_or_check_room(asked):
                return known
        check()  # without the lock: a slow store must not delay other operations
        with self._lock:
            if known := self._find_or_check_room(asked):
                return known
            operation = self._add(asked)

        def end(outcome: Future[JsonObject]) -> None:
            self._end(operation, outcome)

        run_in_thread(lambda: work(operation.steps)).add_done_callback(end)
        return operation

    def _find_or_check_room(self, asked: Asked) -> Operation | None:
        """Return the operation of the same Idempotency-Key; otherwise check that one more may run."""
        known = self._same_key(asked)
        if not known:
            self._check_room(asked.what)
        return known

    def _add(self, asked: Asked) -> Operation:
        id_, fingerprint = uuid.uuid4().hex, asked.fingerprint()
        operation = Operation(
            id_, asked.what, asked.caller, asked.request, _now(), key=asked.key, fingerprint=fingerprint
        )
        self._operations[id_] = operation
        for old in self.list()[KEPT:]:
            if old.state != State.RUNNING:  # its caller still asks how far it is
                del self._operations[old.id]
        self._write()
        return operation

    def _check_room(self, what: str) -> None:
        running = [known for known in self.list() if known.what == what and known.state == State.RUNNING]
        if len(running) >= AT_ONCE:
            raise BeingChanged(
                f"{len(running)} operations of the kind {what} run already, {running[-1].id} among them; "
                "wait until one has ended"
            )

    def _same_key(self, asked: Asked) -> Operation | None:
        """Return the operation of the caller's Idempotency-Key. Raises KeyReused for another request."""
        for known in self.list():
            if asked.key and (known.key, known.by) == (asked.key, asked.caller):
                if known.fingerprint != asked.fingerprint():
                    raise KeyReused(
                        f'the Idempotency-Key "{asked.key}" belongs to operation {known.id}, which has '
                        "another request; use a new key for a new request"
                    )
                return known
        return None

    def _end(self, operation: Operation, outcome: Future[JsonObject]) -> None:
        error = outcome.exception()
        with self._lock:
            operation.ended_at, operation.seconds = _now(), dict(operation.steps.seconds)
            if error is None:
                operation.result, operation.state = outcome.result(), State.SUCCEEDED
                log.info("admin", what=operation.what, by=operation.by, result=operation.result)
            else:
                operation.failure, operation.state = _describe(error), State.FAILED
                known = isinstance(error, CestaError | OSError)
                write = log.warning if known else log.error
                write("admin", what=operation.what, by=operation.by, failed=str(error), exc_info=not known)
            self._write()

    def _write(self) -> None:
        """Write the file. A change goes on without it; a full disk must not stop a rollback."""
        described = [_stored(operation) for operation in self._operations.values()]
        try:
            write_file(self._path, json.dumps(described).encode(), mode=0o600)
        except OSError as error:
            log.warning("operations not written", reason=explain(error))


def _stored(operation: Operation) -> JsonObject:
    """Return the fields for the file, without the steps: its thread adds to them meanwhile."""
    return {of.name: getattr(operation, of.name) for of in fields(operation) if of.name != "steps"}


def _describe(error: BaseException) -> JsonObject:
    if isinstance(error, BeingChanged):
        return {"status": 503, "code": "change_in_progress", "error": str(error)}
    if isinstance(error, CestaError | OSError):
        sentence = explain(error) if isinstance(error, OSError) else str(error)
        return {"status": 409, "code": "change_refused", "error": sentence}
    return {"status": 500, "code": "supervisor_failed", "error": "the supervisor failed; its log says why"}


def _read(path: Path) -> list[Operation]:
    """Return the operations of the file; those that ran when it was written were interrupted."""
    try:
        operations = [Operation(**stored) for stored in json.loads(path.read_bytes())]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        log.warning("operations not read", file=str(path), reason=str(error))
        return []
    for operation in operations:
        if operation.state == State.RUNNING:
            operation.state, operation.ended_at = State.INTERRUPTED, _now()
            ended = "the supervisor ended meanwhile; list the releases to see what is active"
            operation.failure = {"status": 500, "code": "supervisor_failed", "error": ended}
    return operations


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
