"""`POST /v1/explain` of the supervisor's app: who may ask, what the process is asked, what errors are."""

from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from fastapi import FastAPI
from fastapi.testclient import TestClient

from operations.errors import CestaError
from operations.explaining.explanations import Busy, NothingServed
from operations.explaining.process import QuestionRefused
from operations.supervisor.app import answer_errors
from operations.supervisor.explain import make_explain_router

TOKEN = "only the gateway knows"
TOLD = {"release": 7, "items": [], "milliseconds": 1.5}


class Explanations:
    """Takes the place of the process: keeps the question, and answers or fails."""

    def __init__(self) -> None:
        self.asked: Any = None
        self.failure: CestaError | None = None

    def explain(self, question: Any) -> Any:
        self.asked = question
        if self.failure:
            raise self.failure
        return TOLD


@pytest.fixture
def explanations() -> Explanations:
    return Explanations()


@pytest.fixture
def client(explanations: Explanations) -> Iterator[TestClient]:
    app = FastAPI()
    answer_errors(app)
    app.include_router(make_explain_router(explanations, TOKEN))  # type: ignore[arg-type]
    with TestClient(app) as client:
        client.headers |= {"X-Cesta-Admin": TOKEN, "X-Cesta-Key": "desk", "X-Request-Id": "r1"}
        yield client


@pytest.mark.parametrize(
    ("body", "k", "item_ids"),
    [
        ({}, 10, []),
        ({"item_id": "a"}, 0, ["a"]),
        ({"item_id": "a", "item_ids": ["b", "c"], "k": 2}, 2, ["a", "b", "c"]),
        ({"k": None, "item_ids": []}, 10, []),
    ],
)
def test_ten_items_are_explained_or_those_that_are_named(
    client: TestClient, explanations: Explanations, body: Any, k: int, item_ids: list[str]
) -> None:
    answer = client.post("/v1/explain", json={"basket": ["x"], "user_id": None} | body)
    assert answer.json() == TOLD | {"request_id": "r1"}
    assert explanations.asked == {"question": {"basket": ["x"]}, "k": k, "item_ids": item_ids}


def test_each_request_is_logged_with_key_and_customer(client: TestClient) -> None:
    with structlog.testing.capture_logs() as events:
        client.post("/v1/explain", json={"user_id": "900"})
    (event,) = events
    assert (event["by"], event["customer"], event["release"]) == ("key:desk", "900", 7)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"k": 21}, "/k"),
        ({"k": "3"}, "/k"),
        ({"item_ids": [str(n) for n in range(21)]}, "/item_ids"),
        ({"basket": "a"}, "/basket"),
        ({"store": "a"}, "/store"),
    ],
)
def test_a_wrong_body_is_refused_with_its_place(
    client: TestClient, explanations: Explanations, body: Any, pointer: str
) -> None:
    answer = client.post("/v1/explain", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_body")
    assert answer.json()["pointer"] == pointer
    assert explanations.asked is None


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (QuestionRefused("basket has 201 items; at most 200 are allowed"), 400, "invalid_body"),
        (Busy("another question is being explained"), 503, "explainer_busy"),
        (NothingServed("no release answers now"), 503, "not_ready"),
        (CestaError("release 7 cannot be explained: KeyError: 'weather'"), 500, "not_explained"),
    ],
)
def test_a_failure_has_a_code_of_its_own(
    client: TestClient, explanations: Explanations, failure: CestaError, status: int, code: str
) -> None:
    explanations.failure = failure
    answer = client.post("/v1/explain", json={})
    told = answer.json()
    assert (answer.status_code, told["code"], told["detail"]) == (status, code, str(failure))
    assert ("retry-after" in answer.headers) == (status == 503)


def test_who_does_not_know_the_token_is_refused(client: TestClient, explanations: Explanations) -> None:
    answer = client.post("/v1/explain", json={}, headers={"X-Cesta-Admin": "guessed"})
    assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")
    assert explanations.asked is None
