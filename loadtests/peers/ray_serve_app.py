"""Serves the reference with Ray Serve and its batching.

python -m loadtests.peers.ray_serve_app PORT
"""

import signal
import sys
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from loadtests.peers.chain import MAX_BATCH, MAX_WAIT_S, WORKERS, Chain

QUIET = {"enable_access_log": False, "log_level": "WARNING"}


@serve.deployment(
    num_replicas=WORKERS,
    ray_actor_options={"num_cpus": 1},
    max_ongoing_requests=2 * MAX_BATCH,
    logging_config=QUIET,
)
class Recommend:
    """One replica."""

    def __init__(self) -> None:
        self._chain = Chain()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=MAX_WAIT_S)
    async def answers(self, questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return self._chain.recommend(questions)

    async def __call__(self, request: Request) -> dict[str, Any]:
        answer: dict[str, Any] = await self.answers(await request.json())
        return answer


if __name__ == "__main__":
    ray.init(
        num_cpus=WORKERS + 1, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20
    )
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(sys.argv[1])},
        logging_config=QUIET,
    )
    bound = Recommend.bind()  # type: ignore[attr-defined]  # the decorator adds it
    serve.run(bound, route_prefix="/recommend")
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    serve.shutdown()
    ray.shutdown()
