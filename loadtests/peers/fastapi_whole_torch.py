"""FastAPI and uvicorn, every item scored by torch for every request.

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
    """One worker's app."""
    run = Path(os.environ[RUN])
    return web_app(WholeCatalog(run, run.with_name("checkpoint.pt")).recommend)


if __name__ == "__main__":
    serve("loadtests.peers.fastapi_whole_torch:app", int(sys.argv[1]))
