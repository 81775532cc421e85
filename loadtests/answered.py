"""What an open loop's answers say of a change of releases: which release gave each, when, and how late."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from operations.records.golden_answers import Answer, difference

AROUND_S: Final = 0.5  # before and after the first answer of another release


class Answered(NamedTuple):
    """One request, answered or not; moments are in seconds of time.perf_counter."""

    number: int
    due: float
    latency_s: float
    failed: bool
    release: int  # 0: no release answered
    answer: Answer

    @property
    def came(self) -> float:
        return self.due + self.latency_s


def read_answers(file: Path, rate: float) -> list[Answered]:
    """What ``loadtests.open_loop --answers`` wrote at a constant rate; in the order of the due moments."""
    written = json.loads(file.read_text(encoding="utf-8"))
    found = [
        _answered(number, written["begun"] + number / rate, latency_s, failed, body)
        for number, latency_s, failed, body in written["asked"]
    ]
    return sorted(found)


def due(answered: Sequence[Answered], start: float, end: float) -> list[Answered]:
    """Those who came from ``start`` to before ``end``."""
    return [one for one in answered if start <= one.due < end]


def around(answered: Sequence[Answered], release: int, since: float) -> list[Answered]:
    """Those who came within AROUND_S of the first answer of ``release`` after ``since``; none without one."""
    came = [one.came for one in answered if one.release == release and one.came > since]
    return due(answered, min(came) - AROUND_S, min(came) + AROUND_S) if came else []


def figures(answered: Sequence[Answered]) -> dict[str, float]:
    """Of a part of them; latencies in milliseconds."""
    took = np.array([one.latency_s for one in answered] or [np.nan]) * 1000
    return {
        "requests": len(answered),
        "p50_ms": float(np.percentile(took, 50)),
        "p99_ms": float(np.percentile(took, 99)),
        "most_ms": float(took.max()),
        "failed": sum(one.failed for one in answered),
    }


def wrong(answered: Sequence[Answered], right: Mapping[int, Sequence[Answer]]) -> list[str]:
    """What is not the answer of the release that says it gave it; ``right`` is by release and question."""
    found = []
    for one in answered:
        if one.failed:
            continue
        if not (answers := right.get(one.release)):
            found.append(f"request {one.number} is answered by release {one.release}, which is not loaded")
        elif problem := _difference(one.answer, answers[one.number % len(answers)]):
            found.append(f"request {one.number} is not answered as release {one.release} does: {problem}")
    return found


def _difference(got: Answer, want: Answer) -> str | None:
    if len(got.item_ids) != len(want.item_ids):
        return f"{len(got.item_ids)} items instead of {len(want.item_ids)}"
    return difference(got, want)


def _answered(number: int, due: float, latency_s: float, failed: bool, body: str) -> Answered:
    found: dict[str, Any] = json.loads(body) if body and not failed else {}
    answer = Answer.model_validate({name: found.get(name, []) for name in Answer.model_fields})
    return Answered(number, due, latency_s, not found, int(found.get("model_version", 0)), answer)
