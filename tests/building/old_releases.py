"""Repositories that earlier commits published, as they wrote them."""

import tarfile
from pathlib import Path

from operations.releases.repository import manifest_place
from operations.releases.signatures.signature import sign
from operations.releases.signatures.trust import publisher_key
from operations.releases.stores.store import open_repository

ARCHIVE = Path(__file__).parent / "published_by_85684cf" / "repository.tar.gz"


def unpack_old_repository(folder: Path) -> Path:
    """Unpack the repository of commit 85684cf into ``folder``, and return it. Release 1 is active.

    This user vouches for it, as "cesta release sign" does: commit 85684cf signed nothing.
    """
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    repository = open_repository(folder)
    sign(repository, 1, manifest_place(repository, 1).read_bytes(), publisher_key())
    return folder
