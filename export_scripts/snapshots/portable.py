"""A sampler for the workers of an engine. Apart from snapshot.py, so that these do not load torch."""

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.sampler import CandidateSampler


class PortableSampler(CandidateSampler):
    """A sampler that a worker can be given: it makes it again from arrays and limits, indexes included."""

    def __init__(self, arrays: SamplerArrays, limits: dict[str, int]):
        super().__init__(arrays, limits)
        self._made_from = arrays, limits

    def __reduce__(self) -> tuple[type["PortableSampler"], tuple[SamplerArrays, dict[str, int]]]:
        return PortableSampler, self._made_from
