"""The mirror of a bucket on this machine's disk."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from collections import Counter, namedtuple
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from operations.errors import CestaError, StoreError
from operations.records.contract import ENSEMBLE, SAMPLER, SCORER
from operations.records.file_record import FileRecord
from operations.records.object_path import ObjectPath
from operations.releases import history, publish
from operations.releases.mirror import holds
from operations.releases.mirror.local_files import local_files
from operations.releases.mirror.mirror import Mirror
from operations.releases.promote import promote
from operations.releases.repository import active_release, read_release, releases
from operations.releases.retire import retire
from operations.releases.signatures.intact import check_intact
from operations.releases.signatures.verify import verify_release
from operations.releases.stores.folder import FolderRepository
from operations.releases.stores.store import Repository, open_repository
from tests.building import TOY_SAMPLER
from tests.building.runs import toy_run
from tests.running.killed_publisher import start_fetching
from tests.running.network import DROP, FAIL, PASS, BadNetwork
from tests.running.s3 import S3

Usage = namedtuple("Usage", "total used free")
ARRAY = f"{SAMPLER}/1/arrays/sizes.npy"


@pytest.fixture
def network(s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[BadNetwork]:
    """A proxy that records what is read; the mirrors lie in ``tmp_path``."""
    network = BadNetwork(s3.endpoint)
    for name, value in s3.variables(network.endpoint).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CESTA_MIRROR_FOLDER", str(tmp_path / "mirrors"))
    monkeypatch.setenv("CESTA_STORE_TIMEOUT_S", "1")
    monkeypatch.setattr(holds, "RECENT_S", -1.0)  # a minute later
    yield network
    network.close()


@pytest.fixture
def repository(s3: S3, network: BadNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A bucket with release 1, which is active."""
    monkeypatch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
    repository = open_repository(f"s3://{s3.bucket()}/shop")
    publish.publish(toy_run(tmp_path / "run", 1), repository)
    promote(repository, 1)
    network.seen.clear()
    return repository


@pytest.fixture
def mirror(repository: Repository) -> Iterator[Mirror]:
    mirror = opened(repository)
    yield mirror
    mirror.close()


def opened(repository: Repository) -> Mirror:
    """The mirror as another process sees it."""
    mirror = local_files(repository)
    assert isinstance(mirror, Mirror)
    mirror.refresh()
    return mirror


def objects_read(network: BadNetwork, release: int = 1) -> Counter[str]:
    """How often each object of a release's parts was read."""
    names = (path.partition("/shop/")[2] for method, path in network.seen if method == "GET")
    return Counter(name for name in names if f"/{release}/" in name and "manifest" not in name)


def test_each_object_is_read_once_and_several_at_a_time(mirror: Mirror, network: BadNetwork) -> None:
    """Another process, and the check of all hashes, read none."""
    described = mirror.fetch(1)
    assert objects_read(network) == dict.fromkeys(described.files, 1)
    other = opened(mirror.origin)
    assert other.check(1, check_intact) == described
    assert sum(objects_read(network).values()) == len(described.files)
    assert releases(mirror.folder) == [1]
    assert verify_release(mirror.folder) == described
    other.close()


def test_two_processes_that_want_a_release_read_each_object_once(
    repository: Repository, network: BadNetwork
) -> None:
    mirrors = [opened(repository), opened(repository)]
    with ThreadPoolExecutor(2) as pool:
        (one, other) = pool.map(lambda mirror: mirror.fetch(1), mirrors)
    assert one == other
    assert objects_read(network) == dict.fromkeys(one.files, 1)


def kill_at(pid: int, name: str, method: str, path: str) -> str:
    if name in path:
        os.kill(pid, signal.SIGKILL)
        return DROP
    return PASS


def test_what_a_killed_process_left_is_not_seen(repository: Repository, network: BadNetwork, s3: S3) -> None:
    """The next one reads all objects, and sweeps what the killed one wrote when it is a minute old."""
    variables = {
        name: os.environ[name] for name in (*s3.variables(), "CESTA_MIRROR_FOLDER", "XDG_STATE_HOME")
    }
    process = start_fetching(str(repository), variables, 1)
    network.plan = partial(kill_at, process.pid or 0, "model.onnx")
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    network.plan = lambda method, path: PASS
    mirror = opened(repository)
    assert releases(mirror.folder) == []
    (staging,) = mirror.folder.root.glob(".publishing-*")
    assert any(path.is_file() for path in staging.rglob("*"))
    os.utime(staging, (0, 0))
    mirror.check(1, check_intact)
    assert not list(mirror.folder.root.glob(".publishing-*"))


def test_a_half_of_a_release_is_completed(mirror: Mirror, network: BadNetwork) -> None:
    """A process was killed between two renames: the sampler's folder has its name, the manifest has not."""
    mirror.fetch(1)
    shutil.rmtree(mirror.folder.root / SCORER / "1")
    (mirror.folder.root / ENSEMBLE / "1" / "manifest.json").unlink()
    network.seen.clear()
    assert mirror.check(1, check_intact).release == 1
    assert set(objects_read(network)) == {f"{SCORER}/1/model.onnx"}


@pytest.mark.parametrize("damage", [b"x", None, "flip"])
def test_a_file_damaged_on_this_disk_is_fetched_again(
    mirror: Mirror, network: BadNetwork, damage: bytes | str | None
) -> None:
    """Cut off, deleted, or changed without a change of its size. The file's times stay as they were."""
    mirror.fetch(1)
    path = mirror.folder.root / ARRAY
    before = path.stat()
    content = path.read_bytes()
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage if isinstance(damage, bytes) else content[:-1] + b"?")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    network.seen.clear()
    with capture_logs() as logs:
        mirror.check(1, check_intact)
    assert objects_read(network) == {ARRAY: 1}
    assert path.read_bytes() == content
    repaired = [entry for entry in logs if entry["event"] == "mirror repaired"]
    if damage == "flip":
        assert path.stat().st_mtime_ns == before.st_mtime_ns
        assert repaired[0]["files"] == [ARRAY]
        assert "sizes.npy is not what the manifest lists" in repaired[0]["reason"]


def test_a_file_that_is_not_of_the_release_leaves_the_mirror(mirror: Mirror) -> None:
    mirror.fetch(1)
    stranger = mirror.folder.root / SAMPLER / "1" / "more.py"
    stranger.write_bytes(b"x")
    mirror.check(1, check_intact)
    assert not stranger.exists()


def test_an_object_damaged_in_the_bucket_is_refused(mirror: Mirror, repository: Repository) -> None:
    repository.write(ARRAY, b"x")
    with pytest.raises(CestaError, match=r"s3://\S+/sizes\.npy is not what the manifest lists \(1 bytes"):
        mirror.fetch(1)
    assert releases(mirror.folder) == []
    assert not list(mirror.folder.root.glob(f"{SAMPLER}/1"))


def test_an_object_missing_in_the_bucket_is_named(mirror: Mirror, repository: Repository) -> None:
    repository.delete(ARRAY)
    with pytest.raises(CestaError, match=r"sizes\.npy is missing; run .cesta publish"):
        mirror.fetch(1)


def test_nothing_is_read_of_a_release_that_nobody_signed(
    mirror: Mirror, repository: Repository, network: BadNetwork
) -> None:
    repository.delete("signatures.jsonl")
    with pytest.raises(CestaError, match="is not signed"):
        mirror.fetch(1)
    assert not objects_read(network)


def test_a_name_that_leads_out_of_the_mirror_is_refused(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = read_release(mirror.origin, 1)
    files = {**described.files, f"{SAMPLER}/1/../../../x": FileRecord(sha256="", bytes=1)}
    outside = described.model_copy(update={"files": files})
    monkeypatch.setattr("operations.releases.mirror.mirror.read_release", lambda *_: outside)
    with pytest.raises(CestaError, match=r"/x would lie outside of release 1"):
        mirror.fetch(1)


def test_the_same_number_in_a_bucket_that_was_made_anew_is_fetched(
    mirror: Mirror, repository: Repository, tmp_path: Path
) -> None:
    mirror.fetch(1)
    for path in list((repository / "").glob("*")):
        repository.delete_folder(path.name)
        repository.delete(path.name)
    publish.publish(toy_run(tmp_path / "other", 2), repository)
    promote(repository, 1)
    again = opened(repository)
    assert again.check(1, check_intact).digest == read_release(repository, 1).digest


# Room


def add(repository: Repository, tmp_path: Path, *, active: bool = False) -> int:
    """Publish a release of the size of the first."""
    release = publish.publish(toy_run(tmp_path / f"run-{time.time_ns()}", 1), repository)
    if active:
        promote(repository, release)
    return release


def use(mirror: Mirror, release: int, used_s: int) -> None:
    """Fetch a release, as if at that moment."""
    mirror.fetch(release)
    mirror.close()
    os.utime(mirror.folder.root / holds.IN_USE / str(release), (used_s, used_s))


def test_the_release_used_longest_ago_leaves_first(
    mirror: Mirror, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The active and the previous one stay, and so does one that a server has loaded or just used."""
    for active in (False, True, True, False):
        add(repository, tmp_path, active=active)  # 3 is previous, 4 active
    mirror.refresh()
    for used_s, release in enumerate((4, 3, 2, 1)):
        use(mirror, release, used_s)
    size = sum(path.stat().st_size for path in mirror.folder.root.glob("*/1/**/*") if path.is_file())
    monkeypatch.setenv("CESTA_MIRROR_BYTES", str(4 * size + size // 2))
    server = opened(repository)
    server.keep_only({2})
    os.utime(mirror.folder.root / holds.IN_USE / "2", (0, 0))
    use(mirror, 5, 5)
    assert releases(mirror.folder) == [2, 3, 4, 5]
    server.close()
    os.utime(mirror.folder.root / holds.IN_USE / "2", (2, 2))
    use(mirror, 1, 6)
    assert releases(mirror.folder) == [1, 3, 4, 5]
    monkeypatch.setattr(holds, "RECENT_S", time.time())  # a moment ago
    with pytest.raises(
        CestaError, match=r"release 2 takes .* CESTA_MIRROR_BYTES allows .*: allow more; .*: 1, 3, 4, 5$"
    ):
        mirror.fetch(2)
    assert releases(mirror.folder) == [1, 3, 4, 5]


def test_a_clock_that_was_set_back_keeps_no_release(
    mirror: Mirror, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Release 1 was used in the year 2100, by the clock of then."""
    for _ in range(2):
        add(repository, tmp_path, active=True)
    mirror.refresh()
    use(mirror, 1, 4_102_444_800)
    monkeypatch.setattr(holds, "RECENT_S", 60.0)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda folder: Usage(0, 0, 1e12 * (releases(mirror.folder) == []))
    )
    mirror.fetch(3)
    assert releases(mirror.folder) == [3]


def test_a_retired_release_leaves_with_the_next_one_that_comes(
    mirror: Mirror, repository: Repository, tmp_path: Path
) -> None:
    mirror.fetch(1)
    mirror.close()
    for _ in range(2):
        add(repository, tmp_path, active=True)
    assert retire(repository) == [1]
    mirror.refresh()
    mirror.fetch(3)
    assert releases(mirror.folder) == [3]


def test_a_full_disk_is_named_before_anything_is_read(
    mirror: Mirror, network: BadNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10, 10, 0))
    with pytest.raises(CestaError, match=r"its disk has 0\.0 MB free: free some, or set CESTA_MIRROR_FOLDER"):
        mirror.fetch(1)
    assert not objects_read(network)


def test_a_disk_that_fills_meanwhile_leaves_nothing(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: ObjectPath, target: Path) -> FileRecord:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr(ObjectPath, "download", full)
    with pytest.raises(
        CestaError, match=r"release 1 was not brought .*No space left on device; free some space"
    ):
        mirror.fetch(1)
    assert releases(mirror.folder) == []
    assert not list(mirror.folder.root.glob(".publishing-*"))


@pytest.mark.parametrize("value", ["many", "0", "-1"])
def test_a_bound_that_is_no_number_is_refused(
    mirror: Mirror, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CESTA_MIRROR_BYTES", value)
    with pytest.raises(CestaError, match=f"CESTA_MIRROR_BYTES={value}: write bytes"):
        mirror.fetch(1)


# Records


def test_records_follow_the_bucket(mirror: Mirror, repository: Repository, tmp_path: Path) -> None:
    two = add(repository, tmp_path, active=True)
    mirror.refresh()
    assert active_release(mirror.folder) == two
    assert history.read(mirror.folder) == history.read(repository)
    repository.delete("signatures.jsonl")
    mirror.refresh()
    assert not (mirror.folder / "signatures.jsonl").exists()
    mirror.refresh(starting=True)
    assert (mirror.folder / SCORER / "configs" / "tensorrt.pbtxt").exists()


def test_a_start_without_the_store_goes_on_with_the_records(
    mirror: Mirror, repository: Repository, network: BadNetwork
) -> None:
    """A file that is damaged then cannot be fetched again."""
    mirror.fetch(1)
    network.plan = lambda method, path: FAIL
    start = local_files(repository)
    with capture_logs() as logs:
        start.refresh(starting=True)
    assert [entry["event"] for entry in logs] == ["store not read"]
    assert start.check(1, check_intact).release == 1
    with pytest.raises(StoreError):
        start.refresh()
    path = mirror.folder.root / ARRAY
    path.write_bytes(b"?" * path.stat().st_size)
    with pytest.raises(CestaError, match="is not what the manifest lists"):
        start.check(1, check_intact)


@pytest.mark.parametrize("left", ["is empty; restore it", "no such bucket"])
def test_a_start_beside_a_bucket_that_was_emptied_goes_on(
    mirror: Mirror, repository: Repository, s3: S3, left: str
) -> None:
    mirror.fetch(1)
    repository.delete_folder("")
    if left == "no such bucket":
        s3.request("DELETE", "/" + str(repository).split("/")[2])
    start = local_files(repository)
    start.refresh(starting=True)
    assert start.check(1, check_intact).release == active_release(mirror.folder)
    with pytest.raises(StoreError, match=left):
        start.refresh()


def test_a_first_start_without_the_store_is_refused(repository: Repository, network: BadNetwork) -> None:
    network.plan = lambda method, path: FAIL
    with pytest.raises(StoreError, match=r"s3://bucket-\d+/shop"):
        local_files(repository).refresh(starting=True)


def test_a_folder_is_its_own_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
    repository = FolderRepository(tmp_path / "repository")
    publish.publish(toy_run(tmp_path / "run", 1), repository)
    local = local_files(repository)
    assert local.folder is repository
    assert local.check(1, check_intact) == local.fetch(1)
