"""The index of a repository for other programs: ``model_manifest.json``."""

from __future__ import annotations

import errno
import hashlib
import json
from pathlib import Path

import pytest

from loadtests.faults.broken_releases import rewrite_manifest
from operations.errors import BeingChanged
from operations.releases.canary import start_canary
from operations.releases.overview.index import NAME, write_index
from operations.releases.repository import manifest_place, read_release
from operations.releases.stores.store import Repository


def test_the_index_lists_what_the_repository_holds(repository: Repository) -> None:
    """Release 1 is active, release 2 the canary. Every name in the index leads to something."""
    rewrite_manifest(repository, 2, metrics={"known": {"n": 9, "hr_at_10": 0.25, "ndcg_at_10": None}})
    start_canary(repository, 2, 5)
    index = write_index(repository)
    assert json.loads((repository / NAME).read_bytes()) == index
    assert (index["active"], index["previous"], index["canary"]) == (1, None, {"release": 2, "percent": 5})
    assert [(entry["release"], entry["stage"]) for entry in index["releases"]] == [
        (1, "active"),
        (2, "canary"),
    ]
    one, two = index["releases"]
    assert (one["metrics"], two["metrics"]) == ({}, {"known": {"hr_at_10": 0.25}})
    for entry in (one, two):
        manifest = (repository / entry["manifest"]).read_bytes()
        assert hashlib.sha256(manifest).hexdigest() == entry["manifest_sha256"]
        listed = read_release(repository, entry["release"]).files
        assert entry["bytes"] == sum(file.bytes for file in listed.values())
        folders = tuple(f"{folder}/" for folder in entry["models"].values())
        assert all(name.startswith(folders) for name in listed)


@pytest.mark.parametrize("content", [b"{", b'{"a":' * 100_000], ids=["cut off", "nested"])
def test_a_damaged_release_hides_no_other(repository: Repository, content: bytes) -> None:
    repository.write("recommender/2/manifest.json", content)
    index = write_index(repository)
    assert index["damaged"] == [2]
    assert [entry["release"] for entry in index["releases"]] == [1]


def test_a_manifest_that_the_disk_does_not_give_out_hides_no_other(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error", str(path))

    place = manifest_place(repository, 2)
    read = type(place).read_bytes
    monkeypatch.setattr(type(place), "read_bytes", lambda path: (fail if path == place else read)(path))
    assert write_index(repository)["damaged"] == [2]


def test_no_index_is_written_within_a_change(repository: Repository) -> None:
    """It would hold one half of it."""
    with repository.lock(), pytest.raises(BeingChanged):
        write_index(repository)
    assert not (repository / NAME).exists()
