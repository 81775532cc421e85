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


def test_further_inputs_follow_with_their_names_if_they_hold_something() -> None:
    """A question without them has the digest that it always had. An age beside padding is padding."""
    plain = NOTHING * 4
    assert (
        query_digest((), (), (), (), store_id=[b""], items=[]) == hashlib.sha256(plain).hexdigest().encode()
    )
    written = (
        plain
        + b"\x08\0\0\0store_id\1\0\0\0\1\0\0\x007"
        + b"\x12\0\0\0exclude_categories\1\0\0\0\4\0\0\0wine"
        + b"\x05\0\0\0items\1\0\0\0\3\0\0\0tea"
        + b"\x07\0\0\0history\1\0\0\0\4\0\0\0milk"
        + b"\x0c\0\0\0history_ages\1\0\0\0\0\0\x60\x40"  # 3.5
    )
    further = {
        "history_ages": [3.5, 0.0],
        "history": [b"milk", b""],
        "items": [b"tea"],
        "exclude_categories": [b"wine"],
        "store_id": [b"7"],
    }
    assert query_digest((), (), (), (), **further) == hashlib.sha256(written).hexdigest().encode()


ages = st.floats(0, 36_525, width=32)
queries_of_clients = st.builds(
    Query,
    ids,
    st.text(max_size=8),
    st.just(10),
    ids,
    ids,
    store_id=st.text(max_size=8),
    exclude_categories=ids,
    items=ids,
    history=st.lists(st.tuples(st.text(max_size=8), ages), max_size=5),
)


@given(st.lists(queries_of_clients, min_size=1, max_size=4))
def test_the_client_computes_the_same_digest(queries: list[Query]) -> None:
    def column(query: Query, name: str) -> list[bytes]:
        values = getattr(query, name)
        return [value.encode() for value in ([values] if isinstance(values, str) else values)]

    expected = [
        [
            query_digest(
                *(column(query, name) for name in INPUTS),
                **{name: column(query, name) for name in ("store_id", "exclude_categories", "items")},
                history=[item.encode() for item, _ in query.history],
                history_ages=[age for _, age in query.history],
            )
        ]
        for query in queries
    ]
    tensors = tensors_of(queries)
    assert digests_of(tensors) == expected
    assert digests_of(tensors | {"nonce": np.array([[b"1"]] * len(queries), object)}) == expected


def test_warnings_follow_the_digest() -> None:
    """Shorter rows of a request are padded."""
    told = warned(np.array([[b"d1"], [b"d2"]], object), [(b"unknown_category:Tea", b"unknown_store:9"), ()])
    assert told.tolist() == [[b"d1", b"unknown_category:Tea", b"unknown_store:9"], [b"d2", b"", b""]]
