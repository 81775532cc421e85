"""Serves the reference with LitServe and its batching.

python -m loadtests.peers.litserve_app PORT
"""

import sys
from typing import Any

import litserve

from loadtests.peers.chain import MAX_BATCH, MAX_WAIT_S, WORKERS, Chain


class Recommend(litserve.LitAPI):
    """The model of one inference process."""

    def setup(self, device: str) -> None:
        self._chain = Chain()

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return self._chain.recommend(questions)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output


if __name__ == "__main__":
    api = Recommend(max_batch_size=MAX_BATCH, batch_timeout=MAX_WAIT_S, api_path="/recommend")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=WORKERS, fast_queue=True)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
