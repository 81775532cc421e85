"""Scores every item with torch for every request, served with FastAPI and uvicorn.

python -m loadtests.peers.fastapi_whole_torch PORT
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
    run = Path(os.environ[RUN])
    return web_app(WholeCatalog(run, run.with_name("checkpoint.pt")).recommend)


if __name__ == "__main__":
    serve("loadtests.peers.fastapi_whole_torch:app", int(sys.argv[1]))
