"""Repositories of every kind, for tests that use each: a folder and a place in an S3 bucket."""

from __future__ import annotations

from typing import Any

import pytest

from operations.records import manifest
from operations.releases.repository import manifest_place, read_release
from operations.releases.signatures.signature import sign
from operations.releases.signatures.trust import publisher_key
from operations.releases.stores.folder import FolderRepository
from operations.releases.stores.store import Repository, open_repository

KINDS = ["folder", "s3"]

folder_only = pytest.mark.parametrize("repository", ["folder"], indirect=True)
s3_only = pytest.mark.parametrize("repository", ["s3"], indirect=True)


def empty_repository(request: Any) -> Repository:
    """The repository that ``request.param``, one of KINDS, names; it is empty."""
    if request.param == "folder":
        return open_repository(request.getfixturevalue("tmp_path") / "repository")
    return open_repository(f"s3://{request.getfixturevalue('s3').bucket()}/shops/one")


def rewrite_manifest(repository: Repository, release: int, **changes: object) -> None:
    """Replace values of a release's manifest, right or wrong, and sign it again."""
    described = read_release(repository, release).model_copy(update=changes)
    manifest.write(described, manifest_place(repository, release).parent)
    sign(repository, release, manifest_place(repository, release).read_bytes(), publisher_key())


def replace_file(repository: FolderRepository, name: str, content: bytes) -> None:
    """Exchange a release's file, its hash and the signature, as a faulty build would."""
    path = repository / name
    path.unlink()  # copies of a repository share their files
    path.write_bytes(content)
    release = int(name.split("/")[1])
    files = {**read_release(repository, release).files, **manifest.describe([path], repository.root)}
    rewrite_manifest(repository, release, files=files)


def another_score(repository: Repository, release: int) -> None:
    """One score of the second golden answer is another."""
    first, second, *others = read_release(repository, release).golden
    scores = list(second.answer.scores)
    scores[3] += 0.01
    changed = second.answer.model_copy(update={"scores": tuple(scores)})
    golden = (first, second.model_copy(update={"answer": changed}), *others)
    rewrite_manifest(repository, release, golden=golden)
