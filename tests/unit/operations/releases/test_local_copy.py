"""The copy of a bucket's release that its check and its trial share."""

from __future__ import annotations

import shutil
from collections import Counter, namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from operations.errors import CestaError
from operations.records.contract import SAMPLER, SCORER
from operations.releases import publish
from operations.releases.repository import read_release
from operations.releases.signatures.verify import verify_release
from operations.releases.stores.folder import FolderRepository
from operations.releases.stores.local_copy import COPY, local_files
from operations.releases.stores.store import Repository, open_repository
from tests.building import TOY_SAMPLER
from tests.building.runs import toy_run
from tests.running.network import BadNetwork
from tests.running.s3 import S3

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def network(s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[BadNetwork]:
    """A proxy that records what is read; the folder for temporary files is ``tmp_path``."""
    network = BadNetwork(s3.endpoint)
    for name, value in s3.variables(network.endpoint).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)  # else the folder of before
    yield network
    network.close()


@pytest.fixture
def repository(s3: S3, network: BadNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A bucket with release 1."""
    monkeypatch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
    repository = open_repository(f"s3://{s3.bucket()}/shop")
    publish.publish(toy_run(tmp_path / "run", 1), repository)
    return repository


def test_each_object_of_a_bucket_is_read_once(
    repository: Repository, network: BadNetwork, tmp_path: Path
) -> None:
    """The copy holds what Triton loads, is verified like the bucket, and goes with the block."""
    described = read_release(repository, 1)
    network.seen.clear()
    with local_files(repository, described) as (files, folder):
        assert verify_release(files, 1) == described
        copied = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert copied == set(described.files)
    parts = (f"/{SAMPLER}/1/", f"/{SCORER}/1/")
    read = Counter(
        path for method, path in network.seen if method == "GET" and any(part in path for part in parts)
    )
    assert set(read.values()) == {1}
    assert len(read) == len(described.files)
    assert list(tmp_path.glob(f"{COPY}*")) == []


def test_a_damaged_object_is_found_in_the_copy(repository: Repository) -> None:
    name = f"{SAMPLER}/1/arrays/sizes.npy"
    repository.write(name, b"x")
    with (
        local_files(repository, read_release(repository, 1)) as (files, _),
        pytest.raises(CestaError, match=r"sizes\.npy is not what the manifest lists"),
    ):
        verify_release(files, 1)


def test_an_object_that_the_manifest_lacks_is_found_in_the_copy(repository: Repository) -> None:
    repository.write(f"{SAMPLER}/1/more.py", b"x")
    with (
        local_files(repository, read_release(repository, 1)) as (files, _),
        pytest.raises(CestaError, match=r"more\.py is not in the manifest"),
    ):
        verify_release(files, 1)


def test_a_full_disk_is_named_before_anything_is_read(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = read_release(repository, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10, 10, 0))
    with (
        pytest.raises(CestaError, match="has 0 MB free for a copy; free some, or point TMPDIR elsewhere"),
        local_files(repository, described),
    ):
        pass


def test_a_folder_needs_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
    repository = FolderRepository(tmp_path / "repository")
    publish.publish(toy_run(tmp_path / "run", 1), repository)
    with local_files(repository, read_release(repository, 1)) as (files, folder):
        assert files is repository
        assert folder == repository.root
