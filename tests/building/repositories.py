"""Repositories of every kind, for tests that use each: a folder and a place in an S3 bucket."""

from __future__ import annotations

from typing import Any

import pytest

from operations.releases.stores.store import Repository, open_repository

KINDS = ["folder", "s3"]

folder_only = pytest.mark.parametrize("repository", ["folder"], indirect=True)
s3_only = pytest.mark.parametrize("repository", ["s3"], indirect=True)


def empty_repository(request: Any) -> Repository:
    """The repository that ``request.param``, one of KINDS, names; it is empty."""
    if request.param == "folder":
        return open_repository(request.getfixturevalue("tmp_path") / "repository")
    return open_repository(f"s3://{request.getfixturevalue('s3').bucket()}/shops/one")
