"""Serves the reference with FastAPI and uvicorn: the ensemble's candidates, features and graph.

python -m loadtests.peers.fastapi_reference PORT
"""

import sys

from fastapi import FastAPI

from loadtests.peers.chain import Chain
from loadtests.peers.web_app import serve, web_app


def app() -> FastAPI:
    """The app of one worker."""
    return web_app(Chain().recommend)


if __name__ == "__main__":
    serve("loadtests.peers.fastapi_reference:app", int(sys.argv[1]))
