"""From ids to rows: legal ids, and refusals in words that name value and limit."""

from collections.abc import Sequence

import pyarrow as pa
import pytest

from ensemble.candidate_sampler.arrays import NO_CATEGORY, NO_ITEM
from ensemble.candidate_sampler.blanks import BLANKS
from ensemble.candidate_sampler.ids import Ids, Rows
from ensemble.candidate_sampler.query import (
    MAX_BASKET,
    MAX_CATEGORIES,
    MAX_EXCLUDE,
    MAX_ID_BYTES,
    BadRequest,
    Query,
    Vocabulary,
)
from export_scripts.receipts.written import bare_cells
from operations.records.contract import read_contract

LONG_NAME = b"n" * 200  # categories may be as long as the shop calls them


def shop_of(
    items: Sequence[bytes] = (), users: Sequence[bytes] = (), categories: Sequence[bytes] = ()
) -> Vocabulary:
    """The first id of each has row 1."""
    return Vocabulary(*(Rows(Ids.pack([b"", *own])) for own in (items, users, categories, [])))


SHOP = shop_of([b"tea", b"milk", "crème".encode()], users=[b"ann"], categories=[b"drinks", LONG_NAME])


def ids(n: int) -> list[bytes]:
    return [b"%d" % i for i in range(n)]


def test_ids_become_rows() -> None:
    query = SHOP.query([b"tea"], b"ann", exclude=["crème".encode()], categories=[b"drinks"], now=5)
    assert query == Query(user_row=1, basket=[1], exclude=[3], wanted=[1], now=5)


def test_a_query_may_be_empty() -> None:
    assert SHOP.query() == Query()


def test_empty_ids_are_padding() -> None:
    assert SHOP.query([b"", b"tea", b""], b"", [b""], [b"", b""]) == Query(basket=[1])


def test_blanks_around_ids_do_not_count() -> None:
    """Databases pad CHAR columns, and etl removes the padding from a release's ids."""
    padded = SHOP.query([b"tea   ", b"tea", b"  "], b" ann", [b"milk "], [b"drinks  "])
    assert padded == SHOP.query([b"tea"], b"ann", [b"milk"], [b"drinks"])
    assert (len(padded.basket), padded.unknown_items, SHOP.query(user_id=b"  ").named) == (1, 0, False)


@pytest.mark.parametrize("blank", BLANKS, ids=ascii)
def test_a_request_has_the_blanks_of_etl(blank: str) -> None:
    """Text copied from web pages has no-break spaces and zero-width letters."""
    padded = f"{blank}crème {blank}"
    assert bare_cells(pa.array([padded])).to_pylist() == ["crème"]

    given = padded.encode()
    assert SHOP.query([given, b"tea"], given, [given]) == Query(basket=[1, 3], exclude=[3])
    assert SHOP.query(
        [blank.encode()], f"ann{blank}".encode(), categories=[f"drinks{blank}".encode()]
    ) == Query(user_row=1, wanted=[1])
    assert SHOP.query([b"tea", f"tea{blank}".encode()]).unknown_items == 0


def test_all_of_unicodes_white_space_is_blank() -> None:
    assert {letter for letter in map(chr, range(0x110000)) if letter.isspace()} <= set(BLANKS)


@pytest.mark.parametrize("item", ["\u0928\u094d\u200d", "a\u200db", "\u2764\ufe0f"], ids=ascii)
def test_letters_that_belong_to_an_id_stay(item: str) -> None:
    """Indic words end with joiners, emoji end with variation selectors."""
    shop = shop_of([item.encode()])
    assert shop.query([f" {item}\u200b".encode()]) == Query(basket=[1])


def test_an_id_of_an_older_release_keeps_its_blanks() -> None:
    """A known id is not trimmed."""
    shop = shop_of(["tea\u200b".encode(), b"tea"])
    assert shop.query(["tea\u200b".encode()]) == Query(basket=[1])


def test_a_basket_is_a_set() -> None:
    """Order and repetition do not count."""
    assert SHOP.query([b"tea", b"milk", b"tea"]) == SHOP.query([b"milk", b"tea"])
    assert len(SHOP.query([b"tea", b"milk", b"tea"]).basket) == 2


def test_unknown_items_and_users_are_legal() -> None:
    """Each is counted once: a caller who sends wrong ids shows in the metrics."""
    query = SHOP.query([b"tea", b"nope", b"nope", b"neither"], b"bob", exclude=[b"nope"])
    assert query == Query(user_row=0, basket=[1])


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"basket": ids(201)}, "basket has 201 items; at most 200 are allowed"),
        ({"exclude": ids(1001)}, "exclude has 1001 ids; at most 1000 are allowed"),
        ({"categories": ids(101)}, "categories has 101 ids; at most 100 are allowed"),
        (
            {"basket": [b"a" * 129]},
            f'basket holds an id of 129 bytes; at most 128 are allowed: "{"a" * 40}…"',
        ),
        (
            {"user_id": b"u" * 129},
            f'user_id holds an id of 129 bytes; at most 128 are allowed: "{"u" * 40}…"',
        ),
        ({"items": ids(101)}, "items has 101 ids; at most 100 are allowed"),
        ({"exclude_categories": ids(101)}, "exclude_categories has 101 ids; at most 100 are allowed"),
        (
            {"store_id": [b"s" * 129]},
            f'store_id holds an id of 129 bytes; at most 128 are allowed: "{"s" * 40}…"',
        ),
        ({"history": ids(2), "history_ages": [1]}, "history_ages has 1 ages; history has 2 ids"),
        (
            {"history": ids(1001), "history_ages": [1] * 1001},
            "history has 1001 ids; at most 1000 are allowed",
        ),
        (
            {"history": [b"a"], "history_ages": [-0.5]},
            "history_ages holds -0.5; an age is 0 to 36525 days",
        ),
        (
            {"history": [b"a"], "history_ages": [float("nan")]},
            "history_ages holds nan; an age is 0 to 36525 days",
        ),
        (
            {"history": [b"\xc3"], "history_ages": [1]},
            r'history holds an id that is not UTF-8 at byte 0: "\xc3"',
        ),
        ({"exclude": [b"ok\xff"]}, r'exclude holds an id that is not UTF-8 at byte 2: "ok\xff"'),
        ({"user_id": b"\x80"}, r'user_id holds an id that is not UTF-8 at byte 0: "\x80"'),
        ({"categories": [b"\xc3"]}, r'categories holds an id that is not UTF-8 at byte 0: "\xc3"'),
        ({"basket": [b"\x1b[31m\n\xff"]}, r'not UTF-8 at byte 6: "\x1b[31m\x0a\xff"'),  # safe in a log
    ],
)
def test_an_illegal_query_is_refused_with_value_and_limit(request_: dict[str, object], message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        SHOP.query(**request_)  # type: ignore[arg-type]
    assert str(refused.value).endswith(message)


def test_a_query_may_have_more() -> None:
    """Unknown names have no effect and are told. Without any known item, no item is asked for."""
    query = SHOP.query(
        store_id=[b"12"],
        exclude_categories=[b"drinks ", b"Wine"],
        items=[b"milk", b"tea", b"milk", b"nope"],
        history=[b"tea", b"milk ", b"tea", b"", b"nope", b"milk"],
        history_ages=[3.5, 10, 10, 0, 4, 10],
    )
    assert (query.unwanted, query.only) == ([1], [1, 2])
    assert query.history == [(10, 1), (10, 2), (3.5, 1)]
    assert query.warnings == [b"unknown_store:12", b"unknown_excluded_category:Wine", b"unknown_item:nope"]
    assert SHOP.query(items=[b"nope"]).only == [NO_ITEM]
    assert SHOP.query(history=[b"nope"], history_ages=[1]).history == []
    assert SHOP.query(store_id=[b""], items=[b""]) == Query(warnings=[], unwanted=[], only=[])


def test_an_unknown_category_matches_nothing() -> None:
    """The query is about the known ones beside it. Without any it asks for no item, not for all of them."""
    both = SHOP.query(categories=[b"Drinks", b"drinks", b"Cheese"])
    assert (both.wanted, both.unknown_categories) == ([1], (b"Cheese", b"Drinks"))

    none = SHOP.query(categories=[b"Drinks"])
    assert (none.wanted, none.unknown_categories) == ([NO_CATEGORY], (b"Drinks",))


def test_the_limits_themselves_are_allowed() -> None:
    shop = shop_of(ids(MAX_EXCLUDE), categories=ids(MAX_CATEGORIES))
    query = shop.query(ids(MAX_BASKET), b"u" * MAX_ID_BYTES, ids(MAX_EXCLUDE), ids(MAX_CATEGORIES))
    assert (len(query.basket), len(query.exclude), len(query.wanted)) == (200, 1000, 100)


def test_repetition_and_padding_do_not_count_towards_a_limit() -> None:
    assert SHOP.query([b"tea", b""] * 300).basket == [1]


def test_a_long_category_of_the_shop_is_known() -> None:
    assert SHOP.query(categories=[LONG_NAME]).wanted == [2]


def test_a_whole_basket_fits_the_scorers_slots() -> None:
    assert read_contract().basket_slots == MAX_BASKET
