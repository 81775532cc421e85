"""Repositories of every kind, for tests that use each: a folder, a place at S3, one at Google's store."""

from __future__ import annotations

from typing import Any

import pytest

from operations.releases.stores.store import Repository, open_repository

KINDS = ["folder", "s3"]
ALL_KINDS = [*KINDS, "gs"]  # for what two stores may answer in two ways

folder_only = pytest.mark.parametrize("repository", ["folder"], indirect=True)
s3_only = pytest.mark.parametrize("repository", ["s3"], indirect=True)


def empty_repository(request: Any) -> Repository:
    """The repository that ``request.param``, one of KINDS, names; it is empty."""
    if request.param == "folder":
        return open_repository(request.getfixturevalue("tmp_path") / "repository")
    store = request.getfixturevalue({"s3": "s3", "gs": "gcs"}[request.param])
    return open_repository(f"{request.param}://{store.bucket()}/shops/one")
