"""What a query to the shop returns, and what it sends. The server is the client's own fake."""

import asyncio
import copy
import pickle

import numpy as np
import pytest

from cesta_client import (
    AsyncRecommender,
    InvalidRequest,
    Query,
    Reason,
    Recommendation,
    Recommendations,
    Recommender,
    Reply,
    ServerError,
)
from cesta_client.testing import FakeShop


class Wire:
    """A transport that keeps the tensors it receives and returns fixed ones."""

    def __init__(self, item_ids=("a",), scores=(1.0,), reasons=(0,), version="1"):
        self.seen = []
        self.version = version
        self.row = {
            "item_ids": np.array([i.encode() for i in item_ids], dtype=object),
            "scores": np.array(scores, dtype=np.float32),
            "reasons": np.array(reasons, dtype=np.int32),
        }

    def infer(self, tensors, *, timeout_s, request_id, headers):
        self.seen.append({name: tensor.tolist() for name, tensor in tensors.items()})
        batch = len(next(iter(tensors.values())))
        return Reply({name: np.stack([row] * batch) for name, row in self.row.items()}, self.version)

    def close(self):
        pass


def ids(answer):
    return [item.item_id for item in answer]


def test_an_answer_holds_ids_scores_ranks_reasons_and_the_release():
    wire = Wire(["b", "c"], [0.75, 0.5], [2, 1 | 8 | 16], version="7")
    answer = Recommender(transport=wire).recommend(basket=["a"])
    assert answer == [
        Recommendation("b", 0.75, 1, (Reason.TOGETHER,)),
        Recommendation("c", 0.5, 2, (Reason.USUAL, Reason.POPULAR, Reason.CATEGORY)),
    ]
    assert answer.release == 7


def test_reason_bits_of_a_newer_server_are_passed_over():
    wire = Wire(["b", "c"], [1, 1], [4 | 32 | 1024, -(2**31)])  # the last: only the sign bit
    answer = Recommender(transport=wire).recommend()
    assert [item.reasons for item in answer] == [(Reason.SIMILAR,), ()]


def test_padding_is_dropped_and_the_ranks_have_no_gap():
    wire = Wire(["b", "c", "", ""], [1, 0.5, 0, 0], [0, 0, 0, 0])
    assert [(i.rank, i.item_id) for i in Recommender(transport=wire).recommend()] == [(1, "b"), (2, "c")]


def test_an_answer_of_nothing_still_names_its_release():
    answer = Recommender(transport=Wire([""], [0], [0], version="12")).recommend()
    assert answer == []
    assert answer.release == 12


def test_k_cuts_the_answer_and_is_not_sent():
    wire = Wire(["b", "c", "d"], [3, 2, 1], [0, 0, 0])
    assert ids(Recommender(transport=wire).recommend(basket=["a"], k=2)) == ["b", "c"]
    assert wire.seen == [{"basket": [[b"a"]], "user_id": [[b""]]}]


def test_ids_travel_sorted_unique_and_in_utf8_so_that_equal_baskets_share_a_cache_entry():
    wire = Wire()
    Recommender(transport=wire).recommend(
        basket=["käse", "a", "", "a"], user_id="900", exclude=("z", "y"), categories={"dairy"}
    )
    assert wire.seen == [
        {
            "basket": [[b"a", "käse".encode()]],
            "user_id": [[b"900"]],
            "exclude": [[b"y", b"z"]],
            "categories": [[b"dairy"]],
        }
    ]


@pytest.mark.parametrize("nothing", [{}, {"basket": [], "user_id": ""}, {"basket": [""], "exclude": None}])
def test_a_question_without_anything_is_an_empty_id_each(nothing):
    """Triton refuses a request that has no input at all."""
    wire = Wire()
    Recommender(transport=wire).recommend(**nothing)
    assert wire.seen == [{"basket": [[b""]], "user_id": [[b""]]}]


def test_basket_and_user_always_travel_and_the_rest_where_it_is_used():
    """Triton batches only requests with the same inputs."""
    wire = Wire()
    Recommender(transport=wire).recommend(user_id="900")
    Recommender(transport=wire).recommend(basket=["a"], exclude=["b"])
    assert wire.seen == [
        {"basket": [[b""]], "user_id": [[b"900"]]},
        {"basket": [[b"a"]], "user_id": [[b""]], "exclude": [[b"b"]]},
    ]


def test_a_request_is_bounded_by_its_bytes_as_by_its_queries():
    """A basket of 200 ids makes every other one as wide: 64 of them are 64 * 200 lengths of four bytes."""
    wire = Wire()
    wide = Query([f"{n:0128}" for n in range(200)])  # 200 * (4 + 128) bytes
    answers = Recommender(transport=wire).recommend_many([wide, *[Query(["a"], k=1)] * 63, wide, wide])
    assert len(answers) == 66
    assert [len(request["basket"]) for request in wire.seen] == [32, 32, 2]
    sizes = [sum(4 + len(i) for rows in seen.values() for row in rows for i in row) for seen in wire.seen]
    assert max(sizes) <= 62 * 1024


def test_a_question_that_is_too_large_for_any_request_is_the_server_s_to_refuse():
    wire = Wire()
    huge = Query(exclude=[f"{n:0128}" for n in range(1000)])
    Recommender(transport=wire).recommend_many([Query(["a"]), huge])
    assert [len(request["basket"]) for request in wire.seen] == [1, 1]


def test_many_queries_are_one_request_padded_with_empty_ids():
    wire = Wire(["x", "y"], [2, 1], [0, 0])
    queries = [Query(["a", "b", "c"]), Query(["d"], user_id="900", k=1), Query()]
    assert [ids(answer) for answer in Recommender(transport=wire).recommend_many(queries)] == [
        ["x", "y"],
        ["x"],
        ["x", "y"],
    ]
    assert wire.seen == [
        {
            "basket": [[b"a", b"b", b"c"], [b"d", b"", b""], [b"", b"", b""]],
            "user_id": [[b""], [b"900"], [b""]],
        }
    ]


def test_more_than_64_queries_are_split_and_answered_in_order():
    shop = FakeShop(lambda query: [f"with-{query.basket[0]}"])
    answers = Recommender(transport=shop).recommend_many(Query([f"item-{n}"]) for n in range(130))
    assert [len(request.queries) for request in shop.requests] == [64, 64, 2]
    assert [ids(answer) for answer in answers] == [[f"with-item-{n}"] for n in range(130)]


def test_no_queries_are_no_request():
    shop = FakeShop()
    assert Recommender(transport=shop).recommend_many([]) == []
    assert shop.requests == []


def test_request_id_reaches_the_transport():
    shop = FakeShop()
    Recommender(transport=shop).recommend(request_id="checkout-17")
    assert shop.requests[0].request_id == "checkout-17"


def test_ready_asks_another_question_each_time_so_that_no_cache_can_answer():
    shop = FakeShop()
    recommender = Recommender(transport=shop)
    assert recommender.is_ready()
    assert recommender.is_ready()
    first, second = shop.queries
    assert first.basket != second.basket


def test_not_ready_when_the_model_fails():
    shop = FakeShop()
    shop.fail(ServerError("Stub process is not healthy"))
    assert not Recommender(transport=shop).is_ready()
    assert len(shop.requests) == 1


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (Reply({}, "1"), "item_ids"),
        (Reply(dict.fromkeys(("item_ids", "scores", "reasons")), "1"), "NoneType"),
        (Reply({n: np.zeros((1, 2, 3)) for n in ("item_ids", "scores", "reasons")}, "1"), r"\(1, 2, 3\)"),
        (Reply({n: np.zeros((2, 3)) for n in ("item_ids", "scores", "reasons")}, "1"), r"\(2, 3\)"),
        (Reply({n: np.zeros((1, 0)) for n in ("item_ids", "scores", "reasons")}, "newest"), "newest"),
    ],
)
def test_an_answer_that_cannot_be_read_is_a_server_error(broken, sentence):
    class Broken(Wire):
        def infer(self, *args, **options):
            return broken

    with pytest.raises(ServerError, match=sentence):
        Recommender(transport=Broken()).recommend()


def test_the_async_client_asks_and_answers_alike():
    async def ask():
        async with AsyncRecommender(transport=shop) as recommender:
            assert await recommender.is_ready()
            one = await recommender.recommend(basket=["milk"], user_id="900", k=1, request_id="r")
            many = await recommender.recommend_many([Query(["milk"])] * 65)
            return one, many

    shop = FakeShop({"milk": ["bread", "butter"]}, release=5)
    one, many = asyncio.run(ask())
    assert one == [Recommendation("bread", 1.0, 1, (Reason.TOGETHER,))]
    assert one.release == 5
    assert [ids(answer) for answer in many] == [["bread", "butter"]] * 65
    assert [len(request.queries) for request in shop.requests] == [1, 1, 64, 1]
    assert shop.closed


def test_equal_baskets_are_equal_queries():
    assert Query(["b", "a", "a", ""]) == Query(("a", "b"))
    assert len({Query(["b", "a"]), Query(["a", "b"])}) == 1


def test_answers_survive_copy_and_pickle():
    answer = Recommendations([Recommendation("a", 1.0, 1, (Reason.USUAL,))], release=4)
    for again in (copy.copy(answer), pickle.loads(pickle.dumps(answer))):
        assert (again, again.release) == (answer, 4)


def test_leaving_the_block_closes_the_transport():
    shop = FakeShop()
    with Recommender(transport=shop):
        assert not shop.closed
    assert shop.closed


class TestFakeShop:
    """The fake that users of the client get."""

    def test_answers_what_goes_with_each_basket_item_and_with_everything(self):
        shop = FakeShop({"milk": ["bread", "butter"], "tea": ["biscuits", "milk", "bread"], "": ["bananas"]})
        answer = Recommender(transport=shop).recommend(basket=["tea", "milk"], exclude=["butter"])
        assert ids(answer) == ["bread", "biscuits", "bananas"]

    def test_answers_from_a_function_with_scores_and_reasons_of_its_own(self):
        shop = FakeShop(lambda query: [Recommendation(f"for-{query.user_id}", 0.25, 1, (Reason.USUAL,))])
        answer = Recommender(transport=shop).recommend(user_id="900")
        assert answer == [Recommendation("for-900", 0.25, 1, (Reason.USUAL,))]

    def test_never_answers_more_than_20_items(self):
        shop = FakeShop({"": [f"item-{n}" for n in range(30)]})
        assert ids(Recommender(transport=shop).recommend(k=20)) == [f"item-{n}" for n in range(20)]

    def test_remembers_what_it_was_asked(self):
        shop = FakeShop()
        recommender = Recommender(transport=shop, timeout_s=5)
        recommender.recommend(["b", "a"], user_id="900", categories=["dairy"], k=3)
        assert shop.queries == [Query(["a", "b"], user_id="900", categories=["dairy"], k=20)]
        assert 4 < shop.requests[0].timeout_s <= 5


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"session_id": "two words"}, "session_id is 1 to 128 printable ASCII characters without blanks"),
        ({"session_id": ""}, "session_id is 1 to 128"),
        ({"placement": 'cart"'}, "placement is 1 to 64 of A-Z, a-z, 0-9 and ._:/-"),
        ({"variant": 7}, r"variant is 1 to 64 .*; got 7 \(int\)"),
    ],
)
def test_what_the_gateway_would_leave_out_is_refused(told, sentence):
    with pytest.raises(InvalidRequest, match=sentence):
        Recommender(transport=FakeShop()).recommend(["a"], **told)


def test_session_placement_and_variant_travel_as_headers():
    fake = FakeShop()
    shop = Recommender(transport=fake)
    shop.recommend(["a"], session_id="s", placement="cart")
    shop.recommend_many([Query(["a"])], variant="b")
    shop.recommend(["a"])
    assert [request.headers for request in fake.requests] == [
        {"x-session-id": "s", "x-placement": "cart"},
        {"x-variant": "b"},
        {},
    ]
