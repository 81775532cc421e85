"""Users' vectors by bytes."""

import numpy as np
import pytest

from ensemble.candidate_sampler import user_vectors as module
from ensemble.candidate_sampler.user_vectors import by_bytes, user_vectors


def test_a_vector_is_off_by_half_a_step_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step is a 127th of the vector's largest component, which is exact."""
    monkeypatch.setattr(module, "CHUNK", 7)
    vectors = (
        np.random.default_rng(1).normal(size=(20, 6)).astype(np.float32) * np.logspace(-3, 3, 20)[:, None]
    )
    vectors = vectors.astype(np.float32)
    rows = np.arange(20, dtype=np.int32)
    found, largest = user_vectors(by_bytes(vectors), rows), np.abs(vectors).max(1, keepdims=True)
    assert (np.abs(found - vectors) <= largest / 127 / 2 * 1.001).all()
    np.testing.assert_allclose(np.abs(found).max(1, keepdims=True), largest, rtol=1e-6)


def test_equal_vectors_have_equal_bytes_and_zeros_stay_zeros() -> None:
    packed = by_bytes(np.array([[0, 0], [3, -1], [3, -1]], np.float32))
    assert (packed.dtype, packed.shape) == (np.int8, (3, 6))
    np.testing.assert_array_equal(packed[1], packed[2])
    np.testing.assert_array_equal(user_vectors(packed, np.array([0], np.int32)), [[0, 0]])


def test_rows_come_in_the_order_of_the_question() -> None:
    """From bytes and from whole numbers alike."""
    vectors = np.array([[0, 0], [127, 1], [-5, 127]], np.float32)
    users = np.array([2, 0, 1, 2], np.int32)
    for table in (vectors, by_bytes(vectors)):
        np.testing.assert_allclose(user_vectors(table, users), vectors[users], rtol=1e-6)


def test_bytes_are_packed_once() -> None:
    packed = by_bytes(np.ones((2, 3), np.float32))
    assert by_bytes(packed) is packed
