"""The active release as a model that can be asked here: from its repository, verified, as it is served."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.sampler import CandidateSampler
from ensemble.reference import Reference
from operations.errors import CestaError
from operations.records.contract import GRAPH, SAMPLER, SCORER
from operations.records.golden_answers import Answer, GoldenAnswer, difference
from operations.records.manifest import DataRecord
from operations.releases.mirror.local_files import local_files
from operations.releases.models.placing import models_of
from operations.releases.signatures.verify import ARRAYS, verify_release
from operations.releases.stores.store import Repository

GOLDEN: Final = 2  # requests that are asked again: the empty one, and a basket


@dataclass(frozen=True)
class Released:
    """A release that is loaded. Its clock stands at ``now``, just after its last receipt."""

    data: DataRecord
    reference: Reference

    @property
    def now(self) -> int:
        """The first second of which the release knows nothing."""
        return self.reference.sampler.now

    def ids(self) -> tuple[set[bytes], set[bytes]]:
        """Ids of the items with sales, and of the customers with a history."""
        arrays = self.reference.sampler.arrays
        sold, buyers = arrays.popularity.score, np.diff(arrays.histories.user_offsets)
        return (
            _chosen(arrays.item_ids.unpack(), np.flatnonzero(sold)),
            _chosen(arrays.user_ids.unpack(), np.flatnonzero(buyers)),
        )

    def recommended_items(self) -> set[bytes]:
        """Ids of the items that sold often enough to be recommended."""
        arrays = self.reference.sampler.arrays
        return _chosen(arrays.item_ids.unpack(), arrays.popularity.order)


def open_release(repository: Repository, release: int) -> Released:
    """Load a release. Raises CestaError if it is damaged, not trusted, or not to be asked by this code."""
    with closing(local_files(repository)) as local:
        local.fetch(release)
        manifest = verify_release(repository, release, files=local.folder)
        models, folder = models_of(manifest), local.folder.root
        arrays = folder / models[SAMPLER] / str(release) / ARRAYS
        reference = _load(arrays, folder / models[SCORER] / str(release) / GRAPH, release)
        for golden in manifest.golden[:GOLDEN]:
            if problem := difference(_answer(reference, golden), golden.answer):
                raise CestaError(
                    f"release {release} answers otherwise in this version of cesta than when it was "
                    f"exported: {problem}"
                )
    return Released(manifest.data or DataRecord(), reference)


def _load(arrays: Path, graph: Path, release: int) -> Reference:
    try:
        return Reference(CandidateSampler.load(arrays), graph)
    except Exception as error:  # arrays of another version fail in as many ways as there are versions
        reason = f"{type(error).__name__}: {error}"
        raise CestaError(f"this version of cesta cannot ask release {release} ({reason})") from None


def _answer(reference: Reference, golden: GoldenAnswer) -> Answer:
    request = golden.request
    basket = [item_id.encode() for item_id in request.basket]
    query = reference.vocabulary.query(basket, request.user_id.encode())
    answers = reference.recommend([query])
    return Answer(
        item_ids=tuple(answers.item_ids[0].tolist()),
        scores=tuple(answers.scores[0].tolist()),
        reasons=tuple(answers.reasons[0].tolist()),
    )


def _chosen(ids: list[bytes], rows: NDArray[np.integer]) -> set[bytes]:
    return {ids[row] for row in rows.tolist() if row}
