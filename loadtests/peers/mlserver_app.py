"""Serves the reference with MLServer and its adaptive batching.

    python -m loadtests.peers.mlserver_app PORT

A question is one BYTES element that holds its JSON: MLServer joins requests along the first axis, and baskets
differ in length.
"""

import asyncio
import json
import sys
import tempfile

import numpy as np
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from loadtests.peers.chain import MAX_BATCH, MAX_WAIT_S, WORKERS, Chain

MODEL = "recommender"


class Recommend(MLModel):
    """The model of one worker."""

    async def load(self) -> bool:
        self._chain = Chain()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        questions = [json.loads(text) for text in StringCodec.decode_input(payload.inputs[0])]
        answers = self._chain.recommend(questions)
        shape = [len(answers), len(answers[0]["item_ids"])]
        ids = StringCodec.encode_output(
            "item_ids", [item_id for answer in answers for item_id in answer["item_ids"]]
        )
        ids.shape = shape
        scores = np.array([answer["scores"] for answer in answers], np.float32)
        reasons = np.array([answer["reasons"] for answer in answers], np.int32)
        return InferenceResponse(
            model_name=MODEL,
            outputs=[
                ids,
                NumpyCodec.encode_output("scores", scores),
                NumpyCodec.encode_output("reasons", reasons),
            ],
        )


async def serve(http_port: int, metrics: str) -> None:
    """Serve until a signal ends the process. The workers write to the folder `metrics`."""
    settings = Settings(
        host="127.0.0.1",
        http_port=http_port,
        grpc_port=http_port + 1,
        metrics_port=http_port + 2,
        parallel_workers=WORKERS,
        debug=False,
        metrics_dir=metrics,
        logging_settings=None,
    )
    model = ModelSettings(
        name=MODEL, implementation=Recommend, max_batch_size=MAX_BATCH, max_batch_time=MAX_WAIT_S
    )
    server = MLServer(settings)
    await server.start([model])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(serve(int(sys.argv[1]), folder))
