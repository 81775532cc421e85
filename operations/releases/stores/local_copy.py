"""A release of a bucket on this machine's disk, so that its check and its trial read each object once."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from operations.errors import CestaError
from operations.records import manifest
from operations.records.atomic import scratch_folder
from operations.records.contract import ENSEMBLE
from operations.records.manifest import FileRecord, ReleaseManifest
from operations.records.place import Place
from operations.releases.models.placing import models_of
from operations.releases.stores.bucket import BucketRepository
from operations.releases.stores.folder import FolderRepository
from operations.releases.stores.store import Repository

COPY: Final = "cesta.trial-"  # in the machine's folder for temporary files


@contextmanager
def local_files(repository: Repository, release: ReleaseManifest) -> Iterator[tuple[Repository, Path]]:
    """The repository to check a release in, and the local folder that holds the files of its parts.

    For a folder that is the folder itself. A bucket's parts are copied; the copy goes with the block.
    """
    if isinstance(repository, FolderRepository):
        yield repository, repository.root
        return
    assert isinstance(repository, BucketRepository), "there is no third kind"
    with scratch_folder(Path(tempfile.gettempdir()), COPY) as folder:
        copied = _PartlyLocal(repository, folder, release)
        copied.download()
        yield copied, folder


class _PartlyLocal(BucketRepository):
    """A bucket; the parts of one release are read from ``folder``."""

    def __init__(self, bucket: BucketRepository, folder: Path, release: ReleaseManifest) -> None:
        super().__init__(bucket.root)
        self._folder = folder
        models = {model for kind, model in models_of(release).items() if kind != ENSEMBLE}
        self._parts = {f"{model}/{release.release}" for model in models}

    def __truediv__(self, name: str, /) -> Place:  # type: ignore[override]  # local places beside objects
        return self._folder / name if self._is_local(name) else super().__truediv__(name)

    def describe(self, folder: str) -> dict[str, FileRecord]:
        """Digest and size of every file below a folder, by name."""
        if not self._is_local(folder):
            return super().describe(folder)
        return manifest.describe((self._folder / folder).rglob("*"), self._folder)

    def download(self) -> None:
        """Copy the parts. Raises CestaError if the disk has no space for them."""
        objects = [path for part in sorted(self._parts) for path in (self.root / part).files()]
        needed, free = sum(path.size() for path in objects), shutil.disk_usage(self._folder).free
        if needed > free:
            raise CestaError(
                f"the release has {needed / 1e6:,.0f} MB and {self._folder.parent} has {free / 1e6:,.0f} MB "
                "free for a copy; free some, or point TMPDIR elsewhere"
            )
        for path in objects:
            target = self._folder / path.relative_to(self.root)
            if os.pardir in target.parts:
                raise CestaError(f"{path} would lie outside of its release; remove it")
            target.parent.mkdir(parents=True, exist_ok=True)
            path.download(target)

    def _is_local(self, name: str) -> bool:
        return "/".join(name.split("/")[:2]) in self._parts
