"""The test month's baskets as queries of visitors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from loadtests.questions import STEPS, Question, Visit, gaps_between, stream, visits_of_test_month
from loadtests.wires import BINARY, GATEWAY, GENERATE, Answer, read_keys, read_requests, write_requests

if TYPE_CHECKING:
    from pathlib import Path

    from tests.building.slices import Built


@pytest.fixture(scope="module")
def visits(built: Built) -> list[Visit]:
    return visits_of_test_month(built.data, built.run)


def test_the_same_month_gives_the_same_questions(built: Built, visits: list[Visit]) -> None:
    assert visits_of_test_month(built.data, built.run) == visits


def test_only_the_test_month_is_replayed(built: Built, visits: list[Visit]) -> None:
    days = (visits[-1].at_s - visits[0].at_s) / 86_400
    assert 10 < days < built.settings.splits.test_days + 1  # whole days by the clock of the last


def test_visitors_are_what_their_kind_says(visits: list[Visit]) -> None:
    """An anonymous visitor has no user id; a basket that is being filled grows by one item at a time."""
    of_kind = {kind: [v for v in visits if v.kind == kind] for kind in ("anonymous", "filling", "returning")}
    assert all(of_kind.values())
    assert not any(q.user_id for v in of_kind["anonymous"] for q in v.questions)
    for visit in of_kind["filling"]:
        sizes = [len(q.basket) for q in visit.questions]
        assert sizes == list(range(1, len(sizes) + 1))
        assert len(sizes) <= STEPS
    assert all(v.questions[0].basket == () for v in of_kind["returning"] if v.questions[0].user_id)


def test_questions_of_visits_at_the_same_time_are_mixed() -> None:
    """A visitor who fills a basket asks every 20 s, and others ask in between."""
    a, b = Question(("a",)), Question(("a", "b"))
    c = Question(("c",))
    assert stream([Visit("filling", 0, (a, b)), Visit("anonymous", 10, (c,))]) == [a, c, b]


def test_gaps_keep_the_month_s_pattern() -> None:
    visits = [Visit("anonymous", at, (Question(("a",)),)) for at in (0, 10, 40)]
    assert gaps_between(visits, mean_gap_s=1).tolist() == [0.5, 1.5]


def test_what_is_written_for_the_generators_is_read_back(tmp_path: Path) -> None:
    """A binary body may hold line ends."""
    questions = [Question(("a",), "u"), Question((), "\n"), Question(("ä", "b"))]
    for wire in (GENERATE, BINARY):
        file = write_requests(wire, questions, tmp_path / "requests")
        assert read_requests(file) == [wire.request(question) for question in questions]


def test_a_gateway_gets_its_path_and_key() -> None:
    request = GATEWAY.request(Question(("a",)), "secret")
    assert request.startswith(b"POST /v1/recommend HTTP/1.1\r\n")
    assert b"\r\nauthorization: Bearer secret\r\n" in request


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CESTA_KEYS", raising=False)
    assert read_keys() == [""]
    monkeypatch.setenv("CESTA_KEYS", "one,two")
    assert read_keys() == ["one", "two"]


def test_a_gateway_s_answer_is_read() -> None:
    body = (
        b'{"release": 2, "items": [{"item_id": "a", "score": 1.5, "reasons": ["usual"]}], "request_id": ""}'
    )
    assert GATEWAY.decode(body, {}) == Answer(["a"], [1.5])
