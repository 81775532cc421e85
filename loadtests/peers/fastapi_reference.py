"""FastAPI and uvicorn over the reference: same candidates, features and graph as the ensemble.

python -m loadtests.peers.fastapi_reference PORT
"""

import sys

from fastapi import FastAPI

from loadtests.peers.chain import Chain
from loadtests.peers.web_app import serve, web_app


def app() -> FastAPI:
    """One worker's app."""
    return web_app(Chain().recommend)


if __name__ == "__main__":
    serve("loadtests.peers.fastapi_reference:app", int(sys.argv[1]))
