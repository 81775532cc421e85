"""The digest of a query, from bytes written by hand; the client's digest of the same question is equal."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cesta_client import Query
from cesta_client._digest import digests_of
from cesta_client._wire import tensors_of
from ensemble.candidate_sampler.digest import INPUTS, query_digest, warned

NOTHING = b"\0\0\0\0"
ids = st.lists(st.text(max_size=8), max_size=5)


@pytest.mark.parametrize(
    ("inputs", "written"),
    [
        (((), (), (), ()), NOTHING * 4),
        (
            ((b"milk", b"tea"), (b"ann",), (), ()),
            b"\2\0\0\0\4\0\0\0milk\3\0\0\0tea" + b"\1\0\0\0\3\0\0\0ann" + NOTHING * 2,
        ),
        (
            ((), (b"",), (b"x" * 300,), ("käse".encode(),)),
            NOTHING * 2 + b"\1\0\0\0\x2c\1\0\0" + b"x" * 300 + b"\1\0\0\0\5\0\0\0k\xc3\xa4se",
        ),
    ],
)
def test_a_digest_is_that_of_counts_lengths_and_bytes(
    inputs: tuple[Sequence[bytes], ...], written: bytes
) -> None:
    assert query_digest(*inputs) == hashlib.sha256(written).hexdigest().encode()


def test_padding_is_skipped_and_order_counts() -> None:
    digest = query_digest([b"a", b"b"], [b""], [], [])
    assert query_digest([b"", b"a", b"", b"b"], [], [b""], [b"", b""]) == digest
    assert query_digest([b"b", b"a"], [], [], []) != digest


def test_questions_with_the_same_bytes_elsewhere_have_other_digests() -> None:
    """Neither the end of an id nor that of an input can be moved."""
    questions = [
        ([b"ab"], [], [], []),
        ([b"a", b"b"], [], [], []),
        ([b"a"], [b"b"], [], []),
        ([b"a"], [], [b"b"], []),
        ([b"a"], [], [], [b"b"]),
        ([], [], [b"a", b"b"], []),
        ([b"a\1\0\0\0b"], [], [], []),
    ]
    assert len({query_digest(*question) for question in questions}) == len(questions)


@given(st.lists(st.builds(Query, ids, st.text(max_size=8), st.just(10), ids, ids), min_size=1, max_size=4))
def test_the_client_computes_the_same_digest(queries: list[Query]) -> None:
    def column(query: Query, name: str) -> Sequence[str]:
        return (query.user_id,) if name == "user_id" else getattr(query, name)

    expected = [
        [query_digest(*([value.encode() for value in column(query, name)] for name in INPUTS))]
        for query in queries
    ]
    tensors = tensors_of(queries)
    assert digests_of(tensors) == expected
    assert digests_of(tensors | {"nonce": np.array([[b"1"]] * len(queries), object)}) == expected


def test_warnings_follow_the_digest() -> None:
    """Shorter rows of a request are padded."""
    told = warned(np.array([[b"d1"], [b"d2"]], object), [(b"Cheese", b"Tea"), ()])
    assert told.tolist() == [
        [b"d1", b"unknown_category:Cheese", b"unknown_category:Tea"],
        [b"d2", b"", b""],
    ]
