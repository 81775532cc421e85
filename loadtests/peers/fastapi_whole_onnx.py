"""FastAPI and uvicorn, every item scored by ONNX Runtime for every request.

python -m loadtests.peers.fastapi_whole_onnx PORT
"""

import os
import sys
from pathlib import Path

from fastapi import FastAPI

from loadtests.peers.chain import RUN
from loadtests.peers.web_app import serve, web_app
from loadtests.peers.whole_catalog import WholeCatalog


def app() -> FastAPI:
    """One worker's app."""
    return web_app(WholeCatalog(Path(os.environ[RUN])).recommend)


if __name__ == "__main__":
    serve("loadtests.peers.fastapi_whole_onnx:app", int(sys.argv[1]))
