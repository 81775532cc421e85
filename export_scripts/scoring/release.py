"""The release that is scored: verified, on this machine, and answered by this cesta's own sampler.

The features come from the sampler that is installed, not from the copy in the release. So a release whose
golden answers that sampler does not give is refused: its answers would not be the served ones.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ensemble.candidate_sampler.features import FEATURES
from ensemble.candidate_sampler.sampler import CandidateSampler
from ensemble.reference import Reference
from operations.errors import CestaError
from operations.records.golden_answers import Answer, Request, answer_of, difference
from operations.records.manifest import ReleaseManifest
from operations.releases.mirror.local_files import local_files
from operations.releases.models.files import ReleaseFiles, files_of
from operations.releases.repository import require_active
from operations.releases.signatures.verify import verify_release
from operations.releases.stores.store import Repository


@contextmanager
def open_release(repository: Repository, number: int | None) -> Iterator[ReleaseFiles]:
    """Yield the files of a release, by default of the active one; no other process deletes them meanwhile.

    Raises CestaError if the release is missing, not as a trusted publisher signed it, or made by a version of
    cesta whose sampler answers otherwise than this one's.
    """
    release = require_active(repository) if number is None else number
    local = local_files(repository)
    local.refresh()
    try:
        described = local.check(release, lambda files, n: verify_release(repository, n, files=files))
        place = str(repository) if repository.is_remote else str(local.folder.root.absolute())
        files = files_of(place, local.folder.root.absolute(), described)
        _check_answers(described, files)
        yield files
    finally:
        local.close()


def _check_answers(described: ReleaseManifest, files: ReleaseFiles) -> None:
    """Raise CestaError unless this cesta's sampler gives the golden answers of the release."""
    if problem := _first_difference(described, files):
        raise CestaError(
            f"release {files.release} was made by another version of cesta, whose sampler answers otherwise "
            f"({problem}); score it with that version, or export and publish it again"
        )


def _first_difference(described: ReleaseManifest, files: ReleaseFiles) -> str | None:
    if files.contract.features != len(FEATURES):
        return f"it has {files.contract.features} features, this one {len(FEATURES)}"
    try:
        reference = Reference(CandidateSampler.load(files.arrays), files.graph)
    except (OSError, KeyError, ValueError) as error:  # arrays that another version has not written
        return f"{type(error).__name__}: {error}"
    for number, pair in enumerate(described.golden):
        if problem := difference(ask(reference, pair.request), pair.answer):
            return f"golden request {number}: {problem}"
    return None


def ask(reference: Reference, request: Request) -> Answer:
    """The answer of the chain to one request."""
    basket = [item_id.encode() for item_id in request.basket]
    found = reference.recommend([reference.vocabulary.query(basket, request.user_id.encode())])
    item_ids = np.array([[item_id.encode() for item_id in found.item_ids[0]]], object)
    return answer_of({"item_ids": item_ids, "scores": found.scores, "reasons": found.reasons})
