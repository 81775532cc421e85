"""The files of a release in a folder of this machine, as workers are told of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from operations.errors import CestaError
from operations.records.contract import GRAPH, SAMPLER, SCORER, Contract
from operations.records.manifest import ReleaseManifest

ARRAYS: Final = "arrays"  # beside the sampler's code


@dataclass(frozen=True)
class ReleaseFiles:
    """The files of a release in a folder of this machine. ``digest`` is that of the run it was made from."""

    repository: str  # where other machines find it
    release: int
    digest: str
    contract: Contract
    arrays: Path
    graph: Path

    def here(self) -> "ReleaseFiles":
        """The same files on this machine, which may be another one than that of ``open_release``.

        A bucket's release is fetched. Raises CestaError if a folder cannot be seen from here, or if the
        repository has another release under this number by now.
        """
        if self.graph.exists():
            return self
        # Not above: the workers of this machine need none of it.
        from operations.releases.mirror.local_files import local_files
        from operations.releases.stores.store import open_repository

        local = local_files(open_repository(self.repository))
        local.refresh()
        found = files_of(self.repository, local.folder.root, local.fetch(self.release))
        if found.digest != self.digest:
            raise CestaError(
                f"{self.repository}: release {self.release} is another one than when scoring began; run again"
            )
        return found


def files_of(repository: str, folder: Path, described: ReleaseManifest) -> ReleaseFiles:
    """The files of a release in the folder of a repository, or of its mirror."""
    from operations.releases.models.contracts import ServedContract
    from operations.releases.models.placing import models_of

    models, release = models_of(described), str(described.release)
    return ReleaseFiles(
        repository=repository,
        release=described.release,
        digest=described.digest,
        contract=ServedContract.of(described.contract).sizes,
        arrays=folder / models[SAMPLER] / release / ARRAYS,
        graph=folder / models[SCORER] / release / GRAPH,
    )
