"""Serves the reference with BentoML and its adaptive batching.

python -m loadtests.peers.bentoml_app PORT
"""

import os
import sys
from typing import Any

import bentoml

from loadtests.peers.chain import MAX_BATCH, WORKERS, Chain


@bentoml.service(workers=WORKERS, traffic={"timeout": 10}, logging={"access": {"enabled": False}})
class Recommend:
    """One worker. A batchable method takes a list; BentoML joins the lists of several requests."""

    def __init__(self) -> None:
        self._chain = Chain()

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=100, route="/recommend")
    def recommend(self, questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return self._chain.recommend(questions)


if __name__ == "__main__":
    name = "loadtests.peers.bentoml_app:Recommend"
    command = [sys.executable, "-m", "bentoml", "serve", name, "--port", sys.argv[1], "--host", "127.0.0.1"]
    os.execv(sys.executable, command)
