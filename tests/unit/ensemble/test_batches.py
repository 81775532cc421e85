"""A batch of queries is answered as one query at a time, on any number of threads, and fails alone."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensemble.candidate_sampler import sampler
from ensemble.candidate_sampler.arrays import load_arrays, save_arrays
from ensemble.candidate_sampler.batch import Candidates, Touched
from ensemble.candidate_sampler.kernels import sample_batch
from ensemble.candidate_sampler.query import Query
from tests.building.sampled_shops import (
    ARRAYS,
    QUERY,
    RANDOM_ARRAYS,
    assert_equal,
    further_kernels,
    plain_kernels,
    random_queries,
    random_sampler,
)
from tests.building.world import sampler_of


def test_an_empty_batch_is_an_empty_answer() -> None:
    assert sampler_of(ARRAYS).sample([]).rows.shape == (0, 20)


def test_one_query_leaves_nothing_behind_for_the_next() -> None:
    busy = Query(user_row=1, basket=[1, 2], exclude=[3], wanted=[2])
    one_sampler = sampler_of(ARRAYS)
    before = one_sampler.sample([QUERY])
    one_sampler.sample([busy])
    assert_equal(one_sampler.sample([QUERY]), before)


def test_a_failed_batch_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    one_sampler = sampler_of(ARRAYS)
    before = one_sampler.sample([QUERY])

    def fail(
        queries: object,
        arrays: object,
        derived: object,
        limits: object,
        t: Touched,
        out: object,
        further: object,
    ) -> None:
        t.slot[:] = 0
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(sampler, "sample_batch", fail)
        with pytest.raises(MemoryError):
            one_sampler.sample([QUERY])
    assert_equal(one_sampler.sample([QUERY]), before)


def test_a_batch_answers_as_one_at_a_time() -> None:
    queries = random_queries(np.random.default_rng(5), 64)
    together, one_sampler = random_sampler().sample(queries), random_sampler()
    for i, query in enumerate(queries):
        assert_equal(Candidates(*(array[i : i + 1] for array in together)), one_sampler.sample([query]))


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_that_share_a_batch_answer_as_one(threads: int) -> None:
    """It does not matter which thread takes which part, or how uneven the parts are."""
    single, shared = random_sampler(), random_sampler(threads=threads)
    for size in (0, 1, 7, 8, 15, 16, 17, 40, 64, 64, 64):
        queries = random_queries(np.random.default_rng(size), size)
        assert_equal(shared.sample(queries), single.sample(queries))
    shared.close()


def test_large_batches_alone_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads meet within a batch of 16; a batch of 15 stays on the first."""
    main_thread, both = threading.get_ident(), threading.Barrier(2, timeout=20)
    seen: list[int] = []

    def note(*arguments: object) -> None:
        seen.append(threading.get_ident())
        if len(seen) > 1:  # not for the batch of 15
            both.wait()

    two_threads = random_sampler(threads=2)
    monkeypatch.setattr(sampler, "sample_batch", note)
    two_threads.sample(random_queries(np.random.default_rng(1), 15))
    assert seen == [main_thread]
    two_threads.sample(random_queries(np.random.default_rng(1), 16))
    assert len(set(seen)) == 2
    two_threads.close()


@pytest.mark.parametrize("fails_here", [True, False])
def test_a_part_that_fails_fails_its_batch_alone(monkeypatch: pytest.MonkeyPatch, fails_here: bool) -> None:
    """Either thread may fail. The error comes when the other is done, and the next batch is answered
    correctly.
    """
    main_thread, both = threading.get_ident(), threading.Barrier(2, timeout=20)
    two_threads, queries = random_sampler(threads=2), random_queries(np.random.default_rng(2), 16)
    right = random_sampler().sample(queries)

    def fail(*arguments: Any) -> None:
        both.wait()
        if (threading.get_ident() == main_thread) == fails_here:
            arguments[4].slot[:] = 0
            raise MemoryError
        sample_batch(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(sampler, "sample_batch", fail)
        with pytest.raises(MemoryError):
            two_threads.sample(queries)
    assert_equal(two_threads.sample(queries), right)
    two_threads.close()


def test_mapped_arrays_and_those_in_memory_are_one_kernel(tmp_path: Path) -> None:
    save_arrays(RANDOM_ARRAYS, tmp_path)
    mapped = random_sampler(load_arrays(tmp_path))
    queries = random_queries(np.random.default_rng(6), 8)
    assert_equal(mapped.sample(queries), random_sampler().sample(queries))
    mine = Query(unwanted=[1], only=[3, 4], history=[(1.0, 3)], store=b"north")
    assert_equal(mapped.sample([mine]), random_sampler().sample([mine]))
    assert plain_kernels() == further_kernels() == 1, "each dtype or layout adds to the time of a load"
