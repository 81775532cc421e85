"""The active release as a model that can be asked here: from its repository, verified, as it is served."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.ids import Rows
from ensemble.candidate_sampler.sampler import CandidateSampler
from ensemble.reference import Reference
from export_scripts.snapshots.snapshot import recommendable
from operations.errors import CestaError
from operations.records.contract import GRAPH, SAMPLER, SCORER
from operations.records.golden_answers import Answer, GoldenAnswer, difference
from operations.records.manifest import DataRecord
from operations.releases.mirror.local_files import local_files
from operations.releases.models.placing import models_of
from operations.releases.signatures.verify import ARRAYS, verify_release
from operations.releases.stores.store import Repository

Bools = NDArray[np.bool_]

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

    def sold(self, item_ids: Sequence[str]) -> Bools:
        """(n,) did these items sell?"""
        return self._marked(Rows(self._arrays.item_ids), item_ids, self._arrays.popularity.score > 0)

    def recommends(self, item_ids: Sequence[str]) -> Bools:
        """(n,) did these items sell often enough to be recommended?"""
        return self._marked(Rows(self._arrays.item_ids), item_ids, recommendable(self._arrays))

    def knows(self, user_ids: Sequence[str]) -> Bools:
        """(n,) do these users have a history?"""
        return self._marked(
            Rows(self._arrays.user_ids), user_ids, np.diff(self._arrays.histories.user_offsets) > 0
        )

    @property
    def _arrays(self) -> SamplerArrays:
        return self.reference.sampler.arrays

    @staticmethod
    def _marked(rows: Rows, ids: Sequence[str], marks: Bools) -> Bools:
        found = np.array(rows.find([each.encode() for each in ids]))
        known: Bools = marks[found] & (found > 0)
        return known


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
