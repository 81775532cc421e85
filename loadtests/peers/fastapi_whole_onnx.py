"""Scores every item with ONNX Runtime for every request, served with FastAPI and uvicorn.

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
    """The app of one worker."""
    return web_app(WholeCatalog(Path(os.environ[RUN])).recommend)


if __name__ == "__main__":
    serve("loadtests.peers.fastapi_whole_onnx:app", int(sys.argv[1]))
