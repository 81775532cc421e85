"""Parses answers with a client of openapi-python-client: parse_python.py CLIENT < answers.

Prints what failed. It runs in the environment of the generators, where nothing of cesta is.
"""

import importlib
import json
import re
import sys

import httpx


def parse(package: str, answer: dict) -> None:
    """Raise whatever the generated parser raises, also for an answer that it does not know."""
    name = re.sub("([A-Z])", r"_\1", answer["operation"]).lower()
    module = importlib.import_module(f"{package}.api.default.{name}")
    client = importlib.import_module(f"{package}.client").Client(
        "http://shop", raise_on_unexpected_status=True
    )
    response = httpx.Response(answer["status"], json=answer["body"])
    parsed = module._build_response(client=client, response=response).parsed
    if parsed is None:
        raise ValueError("the client has no parser for this status")


failed = {}
sys.path.insert(0, ".")
for given in json.load(sys.stdin):
    try:
        parse(sys.argv[1], given)
    except Exception as error:
        failed[f"{given['operation']} {given['status']}"] = repr(error)[:200]
print(json.dumps(failed))
