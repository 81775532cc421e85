"""Repositories that earlier commits published, as they wrote them."""

import tarfile
from pathlib import Path

ARCHIVE = Path(__file__).parent / "published_by_85684cf" / "repository.tar.gz"


def unpack_old_repository(folder: Path) -> Path:
    """Unpack the repository of commit 85684cf into ``folder``, and return it. Release 1 is active."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder
