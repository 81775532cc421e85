"""A publisher that is killed at any of its steps leaves no release and does not block the next publisher."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from operations.records.contract import MODELS, SAMPLER, SCORER
from operations.releases import history, publish
from operations.releases.promote import promote
from operations.releases.repository import active_release, releases, version_numbers
from operations.releases.retire import retire
from operations.releases.signatures import signature
from operations.releases.signatures.verify import verify_release
from operations.releases.stores import bucket
from operations.releases.stores.folder import ROOM
from operations.releases.stores.store import Repository, open_repository
from tests.building import TOY_SAMPLER
from tests.building.runs import toy_run
from tests.running.killed_publisher import start_publishing
from tests.running.network import DROP, PASS, BadNetwork
from tests.running.s3 import S3

KILLED = -signal.SIGKILL


@pytest.fixture(autouse=True)
def _toy_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)


def first_release(repository: Repository, tmp_path: Path) -> Path:
    """Publish and promote release 1, and make a run for the next."""
    publish.publish(toy_run(tmp_path / "first", 1), repository)
    promote(repository, 1)
    return toy_run(tmp_path / "second", 2)


def check_no_half_release(repository: Repository) -> None:
    """Every listed release is whole, and the active one stays active."""
    assert active_release(repository) == 1
    for release in releases(repository):
        assert verify_release(repository, release).release == release


def check_swept(repository: Repository, run: Path) -> None:
    """The survivor's release is served, and two more retirements remove the remains of dead publishers."""
    survivor = publish.published_as(run, repository)
    assert survivor == max(releases(repository))
    promote(repository, survivor)
    retire(repository)
    assert version_numbers(repository) == {1, survivor}
    assert releases(repository) == [1, survivor]
    assert verify_release(repository).release == survivor


def deaths_in_a_folder(run: Path, repository: Repository) -> Iterator[int]:
    for step in range(200):
        process = start_publishing(run, str(repository), {}, step)
        process.join(60)
        if process.exitcode == 0:
            return
        assert process.exitcode == KILLED
        yield step
    raise AssertionError("publishing never came to its end")


def test_a_publisher_killed_at_any_change_of_a_folder(tmp_path: Path) -> None:
    repository = open_repository(tmp_path / "repository")
    run = first_release(repository, tmp_path)
    steps = 0
    for steps in deaths_in_a_folder(run, repository):  # noqa: B007
        check_no_half_release(repository)
    assert steps > 12
    assert len(releases(repository)) < 5  # few of them died after the manifest was in
    check_swept(repository, run)
    for staging in repository.root.glob(".publishing-*"):  # of the last minute; swept when it is older
        os.utime(staging, (0, 0))
    publish.publish(run, repository)
    assert sorted(path.name for path in repository.root.iterdir()) == sorted(
        [*MODELS, history.NAME, signature.NAME, ROOM]
    )


def kill_at(pid: int, writes: Iterator[int], method: str, path: str) -> str:
    """Kill the publisher after so many of its writes."""
    if method in ("PUT", "POST", "DELETE") and next(writes, None) is None:
        os.kill(pid, signal.SIGKILL)
        return DROP
    return PASS


def kill_at_the_manifest(pid: int, method: str, path: str) -> str:
    if method == "PUT" and "manifest.json" in path:
        os.kill(pid, signal.SIGKILL)
        return DROP
    return PASS


def test_what_a_killed_publisher_has_sent_is_not_sent_again(tmp_path: Path, s3: S3) -> None:
    """The store has the digest of each object. One that differs is sent, one too many is deleted."""
    url = f"s3://{s3.bucket()}/shop"
    repository = open_repository(url)
    run = first_release(repository, tmp_path)
    network = BadNetwork(s3.endpoint)
    process = start_publishing(run, url, s3.variables(network.endpoint), None)
    network.plan = partial(kill_at_the_manifest, process.pid)
    process.join(60)
    assert process.exitcode == KILLED
    graph, stranger = f"{SCORER}/2/model.onnx", f"{SAMPLER}/2/stranger.py"
    repository.write(graph, b"x" * len((repository / graph).read_bytes()))
    repository.write(stranger, b"x")
    network.plan = lambda method, path: PASS
    network.seen.clear()
    start_publishing(run, url, s3.variables(network.endpoint), None).join(60)
    network.close()
    sent = [path.partition("/shop/")[2] for method, path in network.seen if method == "PUT"]
    assert [path for path in sent if "/2/" in path] == [graph, "recommender/2/manifest.json"]
    assert verify_release(repository, 2).release == 2


def test_what_a_killed_publisher_left_goes_when_later_numbers_are_taken(tmp_path: Path, s3: S3) -> None:
    url = f"s3://{s3.bucket()}/shop"
    repository = open_repository(url)
    run = first_release(repository, tmp_path)
    network = BadNetwork(s3.endpoint)
    process = start_publishing(run, url, s3.variables(network.endpoint), None)
    network.plan = partial(kill_at_the_manifest, process.pid)
    process.join(60)
    network.close()
    assert version_numbers(repository) == {1, 2}
    assert bucket.create_once(repository / bucket.NUMBERS / "3", bucket.sign())
    assert publish.publish(run, repository) == 4
    assert version_numbers(repository) == {1, 4}


def test_a_publisher_killed_at_any_write_to_a_bucket(tmp_path: Path, s3: S3) -> None:
    """The next publisher finishes what the killed one began, under its number."""
    url = f"s3://{s3.bucket()}/shop"
    repository = open_repository(url)
    run = first_release(repository, tmp_path)
    network = BadNetwork(s3.endpoint)
    variables = s3.variables(network.endpoint) | {"TMPDIR": str(tmp_path)}
    deaths = 0
    for step in range(100):
        process = start_publishing(run, url, variables, None)
        network.plan = partial(kill_at, process.pid, iter(range(step)))
        process.join(60)
        if process.exitcode == 0:
            break
        assert process.exitcode == KILLED
        deaths += 1
        check_no_half_release(repository)
        assert releases(repository) == [1]
    network.close()
    assert deaths >= 6  # the number twice, two files of the sampler, the graph, the manifest
    assert releases(repository) == [1, 2]
    assert version_numbers(repository) == repository.taken_numbers() == {1, 2}
    check_swept(repository, run)
    names = {path.name for path in repository.root.iterdir()}
    assert names == {*MODELS, history.NAME, signature.NAME, bucket.NUMBERS}
