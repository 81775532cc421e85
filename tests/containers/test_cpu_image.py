"""The slim image serves as `cesta serve` does, within its service's limits, and leaves nothing behind."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from operations.releases.promote import promote
from operations.releases.publish import publish
from operations.releases.stores.store import open_repository
from tests.containers.engine import Engine
from tests.containers.images import base_of
from tests.containers.serving import Serve, Serving
from tests.running.door import free_ports
from tests.running.questions import Question, Reply, over_http
from tests.running.supervised import DIRECT, Supervised

if TYPE_CHECKING:
    from tests.building.slices import Built
    from tests.running.s3 import S3

pytestmark = [pytest.mark.timeout(1800)]  # the first test builds the image

MOST_BYTES = 700e6  # of the image without its base
QUESTIONS = 40
MOUNTS = ("/run/secrets", "/etc/mtab")  # the engine itself makes these
FILL = (
    "for n in $(seq 20); do python -c 'import time; held = b\"x\" * (60 << 20); time.sleep(10)' & done; wait"
)
PORTS_OF_SERVE = ("http", "grpc", "metrics", "supervisor")


def questions(built: Built) -> list[Question]:
    """Baskets of one to eight items, half of them with a user."""
    rng = np.random.default_rng(8)
    items = built.shop.catalog["item_id"].to_numpy()[1:]
    users = built.shop.user_ids[1 : QUESTIONS + 1]
    baskets = [tuple(rng.choice(items, rng.integers(1, 9), replace=False).tolist()) for _ in range(QUESTIONS)]
    return [
        Question(basket, user if n % 2 else "")
        for n, (basket, user) in enumerate(zip(baskets, users, strict=True))
    ]


def ask(http: str, question: Question) -> Reply:
    return over_http(SimpleNamespace(http=http), [question])


def test_the_image_is_small(engine: Engine, cpu_image: str) -> None:
    """llvmlite, which compiles the sampler, is a quarter of what is left."""
    image, below = (engine.inspect("image", name)["Size"] for name in (cpu_image, base_of(engine, "cpu")))
    assert image - below < MOST_BYTES


def test_it_answers_as_a_process_does_and_changes_releases(
    serve: Serve, repository: Path, built: Built
) -> None:
    """Bit for bit the answers of `cesta serve` on this machine. A promotion tries the release in a second
    server within the container's limits.
    """
    asked = questions(built)
    outside = Supervised(repository)
    try:
        expected = [ask(outside.addresses["http"], question) for question in asked]
        assert outside.end() == 0
    finally:
        outside.kill()
    with serve(repository) as served:
        assert served.container.is_healthy()
        for question, want in zip(asked, expected, strict=True):
            assert_equal(ask(served.http, question), want, release="1")
        served.cesta("release", "promote", "2", "--repository=/repository")
        assert "untried" not in last_promotion(repository)
        for question, want in zip(asked, expected, strict=True):
            assert_equal(ask(served.http, question), want, release="2")
        served.cesta("release", "rollback", "--repository=/repository")
        assert ask(served.http, asked[0]).version == "1"
        assert served.container.stop() == 0, served.container.logs()[-4000:]


def assert_equal(got: Reply, want: Reply, release: str) -> None:
    assert got.version == release
    assert got.item_ids.tolist() == want.item_ids.tolist()
    assert got.scores.tobytes() == want.scores.tobytes()
    assert got.reasons.tolist() == want.reasons.tolist()


def last_promotion(repository: Path) -> dict[str, object]:
    return dict(json.loads((repository / "promotions.jsonl").read_text().splitlines()[-1]))


def test_it_writes_only_where_it_must(serve: Serve, repository: Path) -> None:
    """The root may be written here, and nobody does: not a start, a promotion, a key, nor a stop."""
    with serve(repository, "--read-only=false") as served:
        served.cesta("release", "promote", "2", "--repository=/repository")
        served.cesta("keys", "add", "shop", "--folder=/gateway")
        served.container.stop()
        written = [path for kind, path in map(str.split, served.container.changes()) if kind == "A"]
        assert [path for path in written if not path.startswith(MOUNTS)] == []


def test_a_real_lack_of_memory_ends_it_and_it_comes_back(
    serve: Serve, repository: Path, built: Built
) -> None:
    """Twenty processes of 70 MiB, each smaller than the server, fill the limit until the kernel kills."""
    limits = ("--memory=1g", "--memory-swap=1g", "--restart=unless-stopped")
    question = questions(built)[0]
    with serve(repository, *limits) as served:
        before = ask(served.http, question)
        served.container.execute("sh", "-c", FILL, check=False)
        after = first_answer(served, question)
        assert_equal(after, before, release="1")
        assert served.container.restarts + restarts_of_triton(served) > 0


def first_answer(served: Serving, question: Question) -> Reply:
    """Ask until it answers again: whether server or container was started anew, nothing announces it."""
    until = time.monotonic() + 180
    while True:
        try:
            return ask(served.http, question)
        except (OSError, AssertionError, InferenceServerException):
            assert time.monotonic() < until, served.container.logs()[-4000:]
            time.sleep(0.5)


def restarts_of_triton(served: Serving) -> int:
    with DIRECT.open(f"http://{served.supervisor}/v1/status", timeout=10) as answer:
        return int(json.loads(answer.read())["restarts"])


def test_it_serves_and_promotes_from_a_bucket(serve: Serve, built: Built, s3: S3) -> None:
    """What Triton and the trial copy from the bucket fits into the service's /tmp."""
    url = f"s3://{s3.bucket()}/repository"
    repository = open_repository(url)
    for release in (1, 2):
        assert publish(built.run, repository) == release
    promote(repository, 1)
    ports = free_ports(4)
    arguments = tuple(f"--{name}-port={port}" for name, port in zip(PORTS_OF_SERVE, ports, strict=True))
    variables = (f"--env={name}={value}" for name, value in s3.variables().items())
    with serve(url, "--network=host", *variables, arguments=arguments) as served:
        address = f"--address=127.0.0.1:{ports[1]}"
        served.cesta("release", "promote", "2", f"--repository={url}", address)
        assert ask(f"127.0.0.1:{ports[0]}", questions(built)[0]).version == "2"
        assert served.container.stop() == 0, served.container.logs()[-4000:]
