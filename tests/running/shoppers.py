"""Threads that ask a served toy repository all the time and compare every answer with its release's."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from operations.records.contract import ENSEMBLE
from operations.records.golden_answers import Answer, Request, answer_of, difference
from operations.releases.golden import request_tensors
from tests.running.toy_shop import BASKETS

BETWEEN = 40  # answers between two switches, so that each release really serves
ASK_TIMEOUT_S = 90


class Shopper(threading.Thread):
    """Asks one query after the other over one protocol; every second one is new to the cache."""

    def __init__(self, protocol: Any, address: str, expected: dict[int, list[Any]]) -> None:
        super().__init__(daemon=True)
        self._protocol, self._expected = protocol, expected
        self._client = protocol.InferenceServerClient(address)
        self._ending, self.answered = threading.Event(), threading.Semaphore(0)
        self.mistakes: list[str] = []
        self.versions: set[int] = set()
        self.times: list[tuple[float, float]] = []  # asked, answered; seconds

    def run(self) -> None:
        for number in count():
            if self._ending.is_set():
                return
            place, asked_at = number // 2 % len(BASKETS), time.perf_counter()
            try:
                version, answer = self._ask(place, f"{self.name}-{number}" if number % 2 else "")
            except Exception as error:
                self.mistakes.append(f"failed: {error}")
            else:
                self.times.append((asked_at, time.perf_counter()))
                self.versions.add(version)
                if problem := difference(answer, self._expected[version][place]):
                    self.mistakes.append(f"{BASKETS[place]}: not release {version}'s answer: {problem}")
            self.answered.release()

    def stop(self) -> None:
        self._ending.set()
        self.join()
        self._client.close()

    def _ask(self, place: int, user_id: str) -> tuple[int, Answer]:
        inputs = []
        for name, array in request_tensors(Request(basket=BASKETS[place], user_id=user_id)).items():
            inputs.append(self._protocol.InferInput(name, array.shape, "BYTES"))
            inputs[-1].set_data_from_numpy(array)
        result = self._client.infer(ENSEMBLE, inputs)
        response = result.get_response()
        version = response["model_version"] if isinstance(response, dict) else response.model_version
        return int(version), answer_of({n: result.as_numpy(n) for n in ("item_ids", "scores", "reasons")})


@contextmanager
def keep_asking(shoppers: list[Shopper]) -> Iterator[None]:
    """Let all of them ask during the block."""
    try:
        for shopper in shoppers:
            shopper.start()
        wait_for_answers(shoppers)
        yield
    finally:
        for shopper in shoppers:
            shopper.stop()


def wait_for_answers(shoppers: list[Shopper]) -> None:
    """Wait for BETWEEN more answers in all, the same number from each."""
    for shopper in shoppers:
        for _ in range(BETWEEN // len(shoppers)):
            assert shopper.answered.acquire(timeout=ASK_TIMEOUT_S)
