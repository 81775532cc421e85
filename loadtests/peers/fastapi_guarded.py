"""Serves the reference with FastAPI and uvicorn, behind keys and limits like the gateway's.

python -m loadtests.peers.fastapi_guarded PORT
"""

import os
import sys
from pathlib import Path

from fastapi import FastAPI

from loadtests.peers.chain import GUARD, Chain
from loadtests.peers.guard import guard
from loadtests.peers.web_app import serve, web_app


def app() -> FastAPI:
    """The app of one worker."""
    return guard(web_app(Chain().recommend), Path(os.environ[GUARD]))


if __name__ == "__main__":
    serve("loadtests.peers.fastapi_guarded:app", int(sys.argv[1]))
