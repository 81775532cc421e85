"""A server whose repository is a bucket: it loads releases from the mirror on its machine."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from loadtests.faults.broken_releases import rewrite_manifest
from operations.errors import NotPromoted
from operations.records.contract import ENSEMBLE, SAMPLER, SCORER
from operations.releases import history
from operations.releases.canary import start_canary
from operations.releases.mirror import room
from operations.releases.mirror.local_files import local_files
from operations.releases.models.configs import CANARY
from operations.releases.promote import promote, roll_back
from operations.releases.repository import active_release, read_release, releases
from operations.releases.retire import retire
from operations.releases.signatures.verify import verify_release
from operations.releases.stores.store import Repository, open_repository
from operations.server.process import Server
from tests.building import TOY_SAMPLER
from tests.building.newer_contract import SIZES, newer_contract, newer_sampler
from tests.running.network import BadNetwork
from tests.running.remote_shop import RemoteShop
from tests.running.s3 import S3
from tests.running.toy_shop import ToyShop

pytestmark = [pytest.mark.triton, pytest.mark.timeout(300)]

PARTS = (SAMPLER, SCORER)


@pytest.fixture
def network(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[BadNetwork]:
    """A proxy between the bucket and everybody, which records requests."""
    network = BadNetwork(s3.endpoint)
    for name, value in s3.variables(network.endpoint).items():
        monkeypatch.setenv(name, value)
    yield network
    network.close()


@pytest.fixture
def shop(
    tmp_path: Path,
    start_server: Callable[..., Server],
    s3: S3,
    network: BadNetwork,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[RemoteShop]:
    shop = RemoteShop.at(f"s3://{s3.bucket()}/shops/one", tmp_path, start_server, monkeypatch)
    yield shop
    shop.close()


def test_a_release_in_a_bucket_from_promotion_to_a_store_that_is_gone(shop: RemoteShop, s3: S3) -> None:
    """A release is promoted. One that does not load is refused. While the store accepts requests and never
    answers, nothing is changed, and a server starts with the active release of the mirror.
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
        assert "the store is silent (CESTA_STORE_TIMEOUT_S=1)" in shop.refused_promotion(one)
        assert shop.mistakes(two) == []
        with capture_logs() as logs:
            shop.restart()
        assert "store not read" in {entry["event"] for entry in logs}
        assert shop.mistakes(two) == []
    finally:
        s3.process.send_signal(signal.SIGCONT)

    shop.await_others()
    assert roll_back(shop.repository, shop.control)["release"] == one
    assert shop.mistakes(one) == []
    shop.restart()
    assert shop.mistakes(one) == []
    shop.await_others()
    assert shop.control.ready(ENSEMBLE) == {one} == {active_release(shop.repository)}
    assert retire(shop.repository) == []  # the only other ones are newer
    assert releases(shop.repository) == [one, two, broken]


def test_a_promotion_makes_few_requests(shop: RemoteShop, network: BadNetwork) -> None:
    """Each object of the release is read once; Triton asks the store nothing. Beside that, the number of
    requests does not depend on the number of releases.
    """
    one = shop.first(1)
    two = shop.add(2)
    network.seen.clear()
    promote(shop.repository, two, shop.control)
    names = [(method, path.partition("/one/")[2]) for method, path in network.seen]
    parts = dict.fromkeys(read_release(shop.repository, two).files, 1)
    assert Counter(name for method, name in names if method == "GET" and name in parts) == parts
    print(len(names) - len(parts), "requests beside the files")
    assert len(names) - len(parts) <= 36
    network.seen.clear()
    roll_back(shop.repository, shop.control)
    assert len(network.seen) <= 22
    assert shop.mistakes(one) == []


def test_a_canary_release_of_a_bucket(shop: RemoteShop) -> None:
    one = shop.first(1)
    two = shop.add(2)
    start_canary(shop.repository, two, 5, shop.control)
    assert shop.mistakes(two, CANARY) == []
    assert shop.mistakes(one) == []
    promote(shop.repository, two, shop.control)
    assert shop.mistakes(two) == []
    mirrored = local_files(shop.repository).folder
    assert active_release(mirrored) == two
    assert history.read(mirrored) == history.read(shop.repository)


def test_what_the_mirror_cannot_hold_is_refused_and_shops_notice_nothing(
    shop: RemoteShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full. The record of the promotion says so."""
    one = shop.first(1)
    two = shop.add(2)
    monkeypatch.setattr(room, "LEFT_BYTES", 2**60)
    with pytest.raises(
        NotPromoted, match=r'step "fetch" failed: release 2 takes .* its disk has 0\.0 MB free'
    ):
        promote(shop.repository, two, shop.control)
    assert shop.mistakes(one) == []
    assert history.read(shop.repository)[-1]["failed"] == "fetch"


def test_a_server_with_another_mirror_is_not_changed(
    shop: RemoteShop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The server runs on another machine, or for another user."""
    shop.first(1)
    two = shop.add(2)
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("CESTA_MIRROR_FOLDER", str(tmp_path / "elsewhere"))
        with pytest.raises(
            NotPromoted, match=r"from a mirror of s3://\S+ that is not .*; run the command on its"
        ):
            promote(shop.repository, two, shop.control)
    promote(shop.repository, two, shop.control)
    assert shop.mistakes(two) == []


def test_a_loaded_release_that_is_damaged_in_the_mirror_is_fetched_again(shop: RemoteShop) -> None:
    """A promotion checks what is loaded, since Triton may read it again."""
    one = shop.first(1)
    two = shop.add(2)
    promote(shop.repository, two, shop.control)
    roll_back(shop.repository, shop.control)
    three = shop.add(3)
    for release in (one, two):
        path = local_files(shop.repository).folder.root / SAMPLER / str(release) / "arrays" / "sizes.npy"
        path.write_bytes(bytes(path.stat().st_size))
    with capture_logs() as logs:
        promote(shop.repository, three, shop.control)
    assert [e["release"] for e in logs if e["event"] == "mirror repaired"] == [one, two]
    assert shop.mistakes(three) == []
    roll_back(shop.repository, shop.control)
    assert shop.mistakes(one) == []


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


def test_a_server_without_a_supervisor_reads_the_bucket_itself(
    tmp_path: Path, start_server: Callable[..., Server], s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton loads beside the empty folders of a console: in a release, beside it, in a model's folder and at
    the top; in the loaded release, too. The trial reads the mirror.
    """
    monkeypatch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)

    class DirectShop(ToyShop):
        repository = open_repository(f"s3://{s3.bucket()}/shops/one")  # type: ignore[assignment]

    shop = DirectShop(tmp_path, start_server)
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
    shop.close()


def spoil_the_sampler(repository: Repository, release: int) -> None:
    """The sampler's code runs only in Triton. Its hash is right."""
    path = repository / SAMPLER / str(release) / "model.py"
    path.write_bytes(b'raise RuntimeError("no such table")\n')
    changed = repository.describe(f"{SAMPLER}/{release}")
    files = {**read_release(repository, release).files, **changed}
    rewrite_manifest(repository, release, files=files)
