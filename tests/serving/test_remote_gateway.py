"""`cesta release … --gateway`, as deploy.yml types it, and `cesta ask`, against a running gateway."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import ROOT
from tests.running.stack import Stack, open_stack, publish_toys

pytestmark = [pytest.mark.triton, pytest.mark.timeout(240)]

Done = subprocess.CompletedProcess[str]
Release = Callable[..., Done]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two toy releases; the first is active."""
    out = tmp_path_factory.mktemp("stack")
    publish_toys(out, 2)
    with open_stack(out) as stack:
        yield stack


@pytest.fixture
def release(stack: Stack, tmp_path: Path) -> Release:
    """Types `cesta release …` in an empty folder, with the admin key in a file."""
    file = tmp_path / "admin_key"
    file.write_text(stack.admin)

    def type_(*words: str) -> Done:
        gateway = ("--gateway", f"http://{stack.addresses.http}")
        return cesta("release", *words, *gateway, folder=tmp_path, CESTA_ADMIN_KEY_FILE=str(file))

    return type_


def cesta(*words: str, folder: Path, **environment: str) -> Done:
    """Type `cesta …` in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "operations.cli", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_release_gets_a_share_then_all_requests_and_is_taken_back(stack: Stack, release: Release) -> None:
    assert "release 2 gets 5 % of the requests" in release("canary", "2", "--percent", "5").stdout
    assert json.loads(release("list", "--json").stdout)["canary"] == {"release": 2, "percent": 5}
    assert "canary 5 %" in release("list").stdout
    assert stack.recommend() in (1, 2)  # by chance: the request has no session
    assert "release 2 is active" in release("promote", "2").stdout
    assert stack.recommend() == 2
    assert "release 1 is active" in release("rollback").stdout
    assert stack.recommend() == 1


def test_a_share_is_ended(release: Release) -> None:
    assert release("canary", "2").returncode == 0
    assert "release 2 is not the canary release any more" in release("canary", "2", "--percent", "0").stdout
    assert json.loads(release("list", "--json").stdout)["canary"] is None


def test_a_refusal_ends_the_command(stack: Stack, release: Release) -> None:
    done = release("promote", "9")
    assert done.returncode == 1
    assert "/admin/releases/9/promote: 409: " in done.stderr
    assert stack.recommend() == 1


def test_a_shop_asks_with_its_key(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{stack.shop}\n")
    words = ("ask", "--basket", "i1", "--json", "--address", stack.addresses.http, "--protocol", "http")
    assert json.loads(cesta(*words, "--key-file", "key", folder=tmp_path).stdout)["release"] == 1
    refused = cesta(*words, folder=tmp_path)
    assert refused.returncode == 1
    assert "key" in refused.stderr
