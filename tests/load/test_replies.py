"""The release of each answer, the takeover by another release, and answers that belong to neither."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from loadtests.switching.replies import (
    Reply,
    find_mistakes,
    read_replies,
    select_around,
    select_due,
    summarise,
)
from operations.records.golden_answers import Answer

if TYPE_CHECKING:
    from pathlib import Path

RIGHT = {
    1: [Answer(item_ids=("a", "b"), scores=(2.0, 1.0), reasons=(1, 2))],
    2: [Answer(item_ids=("b", "c"), scores=(1.5, 1.0), reasons=(2, 4))],
}


def answered(number: int, release: int, **changes: Any) -> Reply:
    """Correct answers, one due every 0.2 s and answered 10 ms later."""
    return Reply(number, number / 5, 0.01, False, release, RIGHT[release][0])._replace(**changes)


def test_answers_are_read_in_the_order_in_which_they_were_due(tmp_path: Path) -> None:
    """The open loop writes them as number, seconds, whether it failed, body."""
    body = json.dumps({"model_name": "recommender", "model_version": "2", **RIGHT[2][0].json_object()})
    file = tmp_path / "answers.json"
    file.write_text(json.dumps({"begun": 100.0, "asked": [[1, 0.5, False, ""], [0, 0.25, False, body]]}))
    first, second = read_replies(file, rate=4)
    assert first == Reply(0, 100.0, 0.25, False, 2, RIGHT[2][0])
    assert (second.due, second.failed, second.release) == (100.25, True, 0)


def test_the_second_around_a_switch_is_that_of_the_first_new_answer() -> None:
    """Release 2 answers first at 2.01 s, so requests due from 1.51 to 2.51 s count."""
    stream = [answered(n, 1 if n < 10 else 2) for n in range(20)]
    assert [reply.number for reply in select_around(stream, 2, since=0)] == [8, 9, 10, 11, 12]
    assert select_around(stream, 2, since=99) == []


def test_a_window_begins_with_its_start_and_ends_before_its_end() -> None:
    stream = [answered(n, 1) for n in range(10)]
    assert [reply.number for reply in select_due(stream, 0.2, 0.6)] == [1, 2]


def test_figures_are_milliseconds_and_failures_count() -> None:
    stream = [answered(n, 1, latency_s=n / 1000, failed=n == 3) for n in range(101)]
    measured = summarise(stream)
    assert measured == pytest.approx(
        {"requests": 101, "p50_ms": 50, "p99_ms": 99, "most_ms": 100, "failed": 1}
    )


def test_an_answer_is_held_against_the_release_that_gave_it() -> None:
    """The right answer passes; another release's, an unknown release's and a mix are wrong. Failures are no
    answers.
    """
    mix = Answer(item_ids=("a", "c"), scores=(2.0, 1.0), reasons=(1, 4))
    stream = [
        answered(0, 1),
        answered(1, 2),
        answered(2, 1)._replace(release=2),
        answered(3, 1)._replace(release=7),
        answered(4, 2, answer=mix),
        answered(5, 1, answer=Answer(item_ids=(), scores=(), reasons=())),
        answered(6, 1, failed=True),
    ]
    assert [sentence.split()[1] for sentence in find_mistakes(stream, RIGHT)] == ["2:", "3:", "4:", "5:"]
