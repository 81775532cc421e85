"""Reads an open loop's replies during a change of releases: which release answered, when, and how late."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from operations.records.golden_answers import Answer, difference

AROUND_S: Final = 0.5  # before and after the first answer of another release


class Reply(NamedTuple):
    """One request and its answer, if there was one. Moments are in seconds of time.perf_counter."""

    number: int
    due: float
    latency_s: float
    failed: bool
    release: int  # 0: no release answered
    answer: Answer

    @property
    def arrival(self) -> float:
        """The moment when the answer was complete."""
        return self.due + self.latency_s


def read_replies(file: Path, rate: float) -> list[Reply]:
    """Read a file of ``loadtests.open_loop --answers``, written at a constant rate, sorted by due moment."""
    written = json.loads(file.read_text(encoding="utf-8"))
    replies = [
        _reply(number, written["begun"] + number / rate, latency_s, failed, body)
        for number, latency_s, failed, body in written["asked"]
    ]
    return sorted(replies)


def select_due(replies: Sequence[Reply], start: float, end: float) -> list[Reply]:
    """The requests that were due from ``start`` to before ``end``."""
    return [reply for reply in replies if start <= reply.due < end]


def select_around(replies: Sequence[Reply], release: int, since: float) -> list[Reply]:
    """The requests due within AROUND_S of the first answer of ``release`` after ``since``.

    Empty if there was no such answer.
    """
    arrivals = [reply.arrival for reply in replies if reply.release == release and reply.arrival > since]
    return select_due(replies, min(arrivals) - AROUND_S, min(arrivals) + AROUND_S) if arrivals else []


def summarise(replies: Sequence[Reply]) -> dict[str, float]:
    """The number of requests and failures, and latencies in milliseconds."""
    latencies = np.array([reply.latency_s for reply in replies] or [np.nan]) * 1000
    return {
        "requests": len(replies),
        "p50_ms": float(np.percentile(latencies, 50)),
        "p99_ms": float(np.percentile(latencies, 99)),
        "most_ms": float(latencies.max()),
        "failed": sum(reply.failed for reply in replies),
    }


def find_mistakes(replies: Sequence[Reply], expected: Mapping[int, Sequence[Answer]]) -> list[str]:
    """A sentence for each answer that its release does not give; ``expected`` is by release and question."""
    mistakes = []
    for reply in replies:
        if reply.failed:
            continue
        if not (answers := expected.get(reply.release)):
            mistakes.append(f"request {reply.number}: release {reply.release} answered but is not loaded")
        elif problem := _difference(reply.answer, answers[reply.number % len(answers)]):
            mistakes.append(
                f"request {reply.number}: the answer is not that of release {reply.release}: {problem}"
            )
    return mistakes


def _difference(answer: Answer, expected: Answer) -> str | None:
    if len(answer.item_ids) != len(expected.item_ids):
        return f"{len(answer.item_ids)} items instead of {len(expected.item_ids)}"
    return difference(answer, expected)


def _reply(number: int, due: float, latency_s: float, failed: bool, body: str) -> Reply:
    content: dict[str, Any] = json.loads(body) if body and not failed else {}
    answer = Answer.model_validate({name: content.get(name, []) for name in Answer.model_fields})
    return Reply(number, due, latency_s, not content, int(content.get("model_version", 0)), answer)
