"""The process that explains answers: what it answers, and what becomes of it."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from operations.errors import CestaError
from operations.explaining import explanations as module
from operations.explaining.explanations import Busy, Explanations, NothingServed
from operations.explaining.process import QuestionRefused
from operations.releases.models.files import files_of
from operations.releases.repository import read_release
from operations.releases.stores.store import Repository
from operations.server.environment import ServingEnvironment
from tests.building.sampled_shops import RANDOM, RANDOM_ARRAYS
from tests.building.scored import explainer_of_files, publish_release, random_scorer

QUESTION = {"basket": ["i0001", "i0005"], "user_id": "u3"}
ASKED = {"question": QUESTION, "k": 3, "item_ids": ["i0001", "nothing"]}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    scorer = random_scorer(RANDOM.n_users, RANDOM.n_items)
    return publish_release(
        tmp_path_factory.mktemp("random"), RANDOM, RANDOM_ARRAYS, scorer, answers_per_list=10
    )


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """This Python in the place of the serving environment: it has the same packages, and more."""
    with pytest.MonkeyPatch.context() as patch:
        here = ServingEnvironment(Path(sys.prefix), Path(np.__file__).parent.parent)
        patch.setattr(module, "find_serving_environment", lambda: here)
        yield


@pytest.fixture(scope="module")
def explanations(repository: Repository) -> Iterator[Explanations]:
    found = Explanations(repository, lambda: 1)
    yield found
    found.close()


def pid_of(explanations: Explanations) -> int:
    assert explanations._process is not None
    return explanations._process._process.pid


def test_it_answers_as_the_explainer_of_this_process(
    explanations: Explanations, repository: Repository
) -> None:
    """It runs the sampler's copy in the release, at a low priority."""
    told = explanations.explain(ASKED)
    files = files_of("", Path(str(repository)), read_release(repository, 1))
    query = (here := explainer_of_files(files)).vocabulary.query([b"i0001", b"i0005"], b"u3")
    assert told["release"] == 1
    expected = [(one.item_id, pytest.approx(one.score, abs=1e-5)) for one in here.ask(query).explain_first(3)]
    assert [(one["item_id"], one["score"]) for one in told["items"]] == expected
    for one in told["items"]:
        parts = sum(part["total"] for part in one["groups"])
        assert told["baseline"]["score"] + parts == pytest.approx(one["score"], abs=1e-5)
    assert [other["stage"] for other in told["others"]] == ["in_basket", "unknown"]
    assert os.getpriority(os.PRIO_PROCESS, pid_of(explanations)) == 10


def test_a_refused_question_leaves_the_process_as_it_is(explanations: Explanations) -> None:
    explanations.explain(ASKED)
    before = pid_of(explanations)
    with pytest.raises(QuestionRefused, match=r"^basket holds an id of 129 bytes; at most 128 are allowed"):
        explanations.explain(ASKED | {"question": {"basket": ["x" * 129]}})
    explanations.explain(ASKED)
    assert pid_of(explanations) == before


def test_a_process_that_ended_is_replaced(explanations: Explanations) -> None:
    """The question that it was asked fails; the next one is answered."""
    explanations.explain(ASKED)
    with pytest.raises(CestaError, match="cannot be explained: TypeError"):
        explanations.explain(ASKED | {"k": "three"})  # no caller can ask this: the app reads numbers only
    assert explanations.explain(ASKED)["items"]


def test_a_second_question_does_not_wait_for_long(
    explanations: Explanations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT_S", 0.05)
    waiting, going_on = threading.Event(), threading.Event()

    def served() -> int | None:
        waiting.set()
        going_on.wait()
        return None

    explanations._served = served

    def ask_nobody() -> None:
        with pytest.raises(NothingServed):
            explanations.explain(ASKED)

    first = threading.Thread(target=ask_nobody)
    first.start()
    waiting.wait()
    with pytest.raises(Busy):
        explanations.explain(ASKED)
    going_on.set()
    first.join()


def test_it_ends_when_nobody_asks(repository: Repository) -> None:
    explanations = Explanations(repository, lambda: 1, idle_s=0.01)
    explanations.explain(ASKED)
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(30)
    deadline = time.monotonic() + 30
    while explanations._process and time.monotonic() < deadline:  # the timer found it busy; another one waits
        threading.Event().wait(0.01)
    assert explanations._process is None
