"""A server that reads its repository straight from S3."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loadtests.faults.broken_releases import rewrite_manifest
from operations.errors import NotPromoted
from operations.records.contract import SAMPLER, SCORER
from operations.releases.model_control import ModelControl
from operations.releases.promote import promote, roll_back
from operations.releases.repository import active_release, read_release, releases
from operations.releases.retire import retire
from operations.releases.signatures.verify import verify_release

from operations.releases.stores.store import Repository, open_repository
from operations.server.process import Server
from tests.building import TOY_SAMPLER
from tests.building.newer_contract import SIZES, newer_contract, newer_sampler
from tests.running.network import BadNetwork
from tests.running.s3 import S3
from tests.running.toy_shop import ToyShop

pytestmark = [pytest.mark.triton, pytest.mark.timeout(300)]

PARTS = (SAMPLER, SCORER)


class RemoteShop(ToyShop):
    """A toy shop whose repository is a bucket."""

    remote: Repository

    @property
    def repository(self) -> Repository:
        return self.remote


@pytest.fixture
def shop(
    tmp_path: Path,
    start_server: Callable[..., Server],
    s3: S3,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[RemoteShop]:
    monkeypatch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
    monkeypatch.setenv("CESTA_STORE_TIMEOUT_S", "1")

    shop = RemoteShop(tmp_path, start_server)
    shop.remote = open_repository(f"s3://{s3.bucket()}/shops/one")
    yield shop
    shop.close()


def test_a_release_in_a_bucket_from_promotion_to_a_store_that_is_silent(shop: RemoteShop, s3: S3) -> None:
    """A release is promoted. One that does not load is refused. A store accepts requests and
    never answers. After a rollback and a restart the server serves the active release.
    """
    one = shop.first(1)
    two = shop.add(2)
    assert promote(shop.repository, two, shop.control)["before"] == one
    assert shop.mistakes(two) == []

    broken = shop.add(3)
    spoil_the_sampler(shop.repository, broken)
    with pytest.raises(NotPromoted, match=r'step "trial" failed: .*no such table'):
        promote(shop.repository, broken, shop.control)
    assert shop.mistakes(two) == []
    assert shop.is_ready()
    verify_release(shop.repository, broken)

    s3.process.send_signal(signal.SIGSTOP)
    try:
        assert "the store is silent (CESTA_STORE_TIMEOUT_S=1)" in refused_promotion(shop, one)
        assert shop.mistakes(two) == []
    finally:
        s3.process.send_signal(signal.SIGCONT)

    assert roll_back(shop.repository, shop.control)["release"] == one
    assert shop.mistakes(one) == []
    shop.server.stop(grace_s=0)
    again = shop.start(str(shop.repository))
    with ModelControl(again.grpc) as control:
        assert control.ready("recommender") == {one} == {active_release(shop.repository)}
    again.stop(grace_s=0)
    assert retire(shop.repository) == []  # the only other ones are newer
    assert releases(shop.repository) == [one, two, broken]


def test_releases_of_two_contracts_in_a_bucket(
    shop: RemoteShop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is promoted, the first returned to, and a restart serves it."""
    one = shop.first(1)
    sampler = newer_sampler(tmp_path / "sampler")
    monkeypatch.setattr("operations.records.sampler_code.SAMPLER_CODE", sampler)
    two = shop.add(2, sizes=SIZES, contract=newer_contract())
    promote(shop.repository, two, shop.control)
    assert shop.mistakes(two) == []
    assert len(shop.control.ready_parts()) == 4
    roll_back(shop.repository, shop.control)
    assert shop.mistakes(one) == []
    shop.restart()
    assert shop.mistakes(one) == []


def test_triton_loads_beside_the_empty_folders_of_a_console(shop: RemoteShop, s3: S3) -> None:
    """In a release, beside it, in a model's folder and at the top; in the loaded release, too."""
    one = shop.first(1)
    two = shop.add(2)
    bucket = str(shop.repository).removeprefix("s3://")
    for place in ("", "new/", f"{SAMPLER}/", f"{SAMPLER}/new/", f"{SAMPLER}/2/", f"{SAMPLER}/2/new/"):
        s3.request("PUT", f"/{bucket}/{place}")
    for place in (f"{SAMPLER}/1/arrays/", f"{SCORER}/2/", "recommender/2/", f"{SCORER}/9/"):
        s3.request("PUT", f"/{bucket}/{place}")
    promote(shop.repository, two, shop.control)
    assert shop.mistakes(two) == []
    roll_back(shop.repository, shop.control)
    assert shop.mistakes(one) == []
    assert shop.is_ready()


def test_a_trial_reads_each_object_once(
    shop: RemoteShop, s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The check of the files and the trial share one copy on the disk, which is gone afterwards."""
    shop.first(1)
    broken = shop.add(2)
    spoil_the_sampler(shop.repository, broken)
    network = BadNetwork(s3.endpoint)
    for name, value in s3.variables(network.endpoint).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)  # else the folder of before
    with pytest.raises(NotPromoted, match=r'step "trial" failed: .*no such table'):
        promote(open_repository(str(shop.repository)), broken, shop.control)
    network.close()
    read = Counter(path for method, path in network.seen if method == "GET" and f"/{broken}/" in path)
    parts = {path: count for path, count in read.items() if "manifest.json" not in path}
    assert len(parts) == len(read_release(shop.repository, broken).files)
    assert set(parts.values()) == {1}
    assert list(tmp_path.glob(f"{COPY}*")) == []


def refused_promotion(shop: RemoteShop, release: int) -> str:
    """The error of the command in its own process, because its request may still reach the store later."""
    where = ["--repository", str(shop.repository), "--address", shop.server.grpc]
    command = [sys.executable, "-m", "operations.cli", "release", "promote", str(release), *where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    return done.stderr


def spoil_the_sampler(repository: Repository, release: int) -> None:
    """The sampler's code runs only in Triton. Its hash is right."""
    path = repository / SAMPLER / str(release) / "model.py"
    path.write_bytes(b'raise RuntimeError("no such table")\n')
    changed = repository.describe(f"{SAMPLER}/{release}")
    files = {**read_release(repository, release).files, **changed}
    rewrite_manifest(repository, release, files=files)
