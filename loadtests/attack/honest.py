"""The honest caller: a process that asks at a constant rate and checks each answer, while others attack.

It asks over JSON and gRPC in turn, new baskets and repeated ones in turn. Latency counts from the due moment.
Probes of health come from the same address.
"""

import contextlib
import http.client
import itertools
import json
import multiprocessing
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final, NamedTuple

import numpy as np
from tritonclient.grpc import service_pb2

from loadtests.attack.collisions import inputs_of
from loadtests.attack.place import Place
from loadtests.attack.wire import Grpc, Line, make_message, write_question, write_request
from loadtests.questions import Question
from operations.records.golden_answers import Answer, difference

RATE: Final = 50.0  # requests per second
THREADS: Final = 8
REPEATED: Final = 50  # the first questions are asked again and again
REPORT_S: Final = 0.25
PROBE_S: Final = 0.25
BROKEN: Final = (
    b"Socket closed",
    b"ailed to connect",
    b"Connection re",
    b"recvmsg",
    b"GOAWAY",
)  # gRPC's words
HEALTH: Final = tuple((method, path) for path in ("/healthz", "/readyz") for method in ("GET", "HEAD"))


class Expected(NamedTuple):
    """A question with its right answer."""

    question: Question
    answer: Answer


@dataclass(frozen=True)
class Asked:
    """One request of the honest caller, or one probe of health."""

    due: float  # time.monotonic
    seconds: float
    wire: str  # JSON, gRPC or health
    problem: str = ""  # empty: the answer was right
    broke: bool = False  # there was no answer at all; it was asked again


class Honest:
    """The parent's side: what was asked so far."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._asked = pipe, list[Asked]()

    def read(self) -> list[Asked]:
        """All requests so far, in the order of their ends."""
        while self._pipe.poll():
            self._asked += self._pipe.recv()
        return self._asked

    def between(self, start: float, end: float) -> list[Asked]:
        """The requests that were due in this time."""
        return [asked for asked in self.read() if start <= asked.due < end]


@contextmanager
def ask_honestly(place: Place, expected: Sequence[Expected]) -> Iterator[Honest]:
    """Run the honest caller until the block ends."""
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    child = context.Process(target=_ask, args=(place, list(expected), its), daemon=True)
    child.start()
    try:
        ours.recv()  # it has imported everything
        yield Honest(ours)
    finally:
        child.terminate()
        child.join()


def check_answer(expected: Answer, item_ids: Sequence[str], scores: Sequence[float]) -> str:
    """A sentence about the first difference from the right answer, or ""."""
    count = sum(1 for item in expected.item_ids if item)
    if len(item_ids) != count:
        return f"{len(item_ids)} items instead of {count}"
    wanted = Answer(item_ids=expected.item_ids[:count], scores=expected.scores[:count], reasons=(0,) * count)
    got = Answer(item_ids=tuple(item_ids), scores=tuple(scores), reasons=(0,) * count)
    return difference(got, wanted) or ""


class Caller:
    """One thread's connections."""

    def __init__(self, place: Place, channel: Grpc) -> None:
        self._place, self._line, self._grpc = place, Line(place.http), channel

    def ask(self, number: int, expected: Expected) -> tuple[str, bool]:
        """A sentence about what was wrong, or "", and whether it was asked again."""
        ask, broken = (self._ask_grpc if number % 2 else self._ask_json), self._line.broken
        problem = ask(f"honest-{number}", expected)
        if problem.startswith("no answer"):
            return ask(f"honest-{number}", expected), True
        return problem, self._line.broken > broken

    def _ask_json(self, request_id: str, expected: Expected) -> str:
        named = [("X-Request-Id", request_id)]
        reply = self._line.ask(write_question(self._place, expected.question, "honest", named))
        if not reply.status:
            return "no answer"
        if reply.status != 200:
            return f"{reply.status} {reply.body[:120].decode(errors='replace').strip()}"
        ids = [value for name, value in reply.headers if name == "x-request-id"]
        if ids != [request_id]:
            return f"request id {request_id} comes back as {ids}"
        items = json.loads(reply.body)["items"]
        return check_answer(
            expected.answer, [item["item_id"] for item in items], [item["score"] for item in items]
        )

    def _ask_grpc(self, request_id: str, expected: Expected) -> str:
        message = make_message(inputs_of(expected.question), request_id)
        status, content = self._grpc.ask(message.SerializeToString())
        if status == "UNAVAILABLE" and any(words in content for words in BROKEN):
            return f"no answer: {content[:120].decode(errors='replace')}"
        if status != "OK":
            return f"{status} {content[:120].decode(errors='replace')}"
        response = service_pb2.ModelInferResponse.FromString(content)
        if response.id != request_id:
            return f"request id {request_id} comes back as {response.id!r}"
        return check_answer(expected.answer, *read_tensors(response))


def read_tensors(response: "service_pb2.ModelInferResponse") -> tuple[list[str], list[float]]:
    """The items and scores of an answer, without padding."""
    raw = dict(zip((output.name for output in response.outputs), response.raw_output_contents, strict=True))
    ids, content = list[str](), raw["item_ids"]
    while content:
        size = int.from_bytes(content[:4], "little")
        ids.append(content[4 : 4 + size].decode())
        content = content[4 + size :]
    scores = np.frombuffer(raw["scores"], np.float32).tolist()
    kept = [(item, score) for item, score in zip(ids, scores, strict=True) if item]
    return [item for item, _ in kept], [score for _, score in kept]


def _ask(place: Place, expected: list[Expected], pipe: Connection) -> None:
    """The child: callers and a probe in threads, and reports to the parent."""
    done, lock = list[Asked](), threading.Lock()
    begun, numbers = time.monotonic(), itertools.count()
    pipe.send([])
    channel = Grpc(place.grpc, place.keys["honest"])

    def report(asked: Asked) -> None:
        with lock:
            done.append(asked)

    def call() -> None:
        caller = Caller(place, channel)
        for number in numbers:  # next() of a count is one step for all threads
            due = begun + number / RATE
            time.sleep(max(0.0, due - time.monotonic()))
            problem, broke = caller.ask(number, choose(number, expected))
            wire = "gRPC" if number % 2 else "JSON"
            report(Asked(due, time.monotonic() - due, wire, problem, broke))

    def probe() -> None:
        for number in itertools.count():
            due = begun + number * PROBE_S
            time.sleep(max(0.0, due - time.monotonic()))
            problem = probe_health(place, *HEALTH[number % len(HEALTH)])
            report(Asked(due, time.monotonic() - due, "health", problem))

    for work in (*[call] * THREADS, probe):
        threading.Thread(target=work, daemon=True).start()
    with contextlib.suppress(BrokenPipeError):
        while True:
            time.sleep(REPORT_S)
            with lock:
                sent, done[:] = done[:], []
            pipe.send(sent)


def choose(number: int, expected: Sequence[Expected]) -> Expected:
    """Two new questions, two repeated ones, and so on, so that both wires get both."""
    repeated = min(REPEATED, len(expected) // 2)
    pair, second = divmod(number, 4)
    if second < 2:
        return expected[repeated + (2 * pair + second) % (len(expected) - repeated)]
    return expected[(2 * pair + second) % repeated]


def probe_health(place: Place, method: str, path: str) -> str:
    """A sentence if the gateway refuses a probe of health, or ""."""
    try:
        with Line(place.http) as line:
            reply = line.ask(write_request(path, method=method), method)
    except (OSError, http.client.HTTPException) as error:
        return f"{method} {path}: {error!r}"
    return "" if reply.status == 200 else f"{method} {path}: {reply.status or 'no answer'}"
