"""Rows are medians, ratios compare the best with the best, and the document shows the tables of the file."""

from dataclasses import replace

import pytest

from loadtests import tables
from loadtests.bench.agreement import DisagreementError, agree, check
from loadtests.bench.results import HALF, Measured, catalog_share, ratios_of, rows_of
from loadtests.questions import Question
from loadtests.wires import Answer

ONE = Measured(
    "cesta", "ours", "gRPC", "off", 8, 100.0, 1.0, 2.0, 0, {"stub": 300.0, "server": 100.0}, 0.1, 50.0
)
PEER = replace(ONE, server="FastAPI", kind="peer", wire="HTTP JSON", rps=50.0)


def test_a_row_holds_the_median_the_spread_and_the_peak() -> None:
    (row,) = rows_of([replace(ONE, rps=rps, pss_mib=rps) for rps in (90.0, 300.0, 100.0)])
    assert (row["rps"], row["spread"]["rps"], row["peak_mib"]) == (100, [90, 300], 300)
    assert (row["cpu_us_per_request"], row["cpu_us_per_request_total"]) == ({"server": 100, "stub": 300}, 400)


def test_errors_add_up() -> None:
    (row,) = rows_of([replace(ONE, errors=2), replace(ONE, errors=3)])
    assert row["errors"] == 5


def test_ratios_compare_the_best_of_each() -> None:
    limit = replace(ONE, server="in process", kind="limit", wire="none", rps=200.0)
    torch = replace(PEER, server="FastAPI, whole catalog, torch", kind="whole", rps=2.0)
    slower = [replace(ONE, wire="HTTP JSON", rps=75.0), replace(PEER, server="Ray Serve", rps=5.0)]
    cached = [replace(ONE, cache="on", rps=150.0), replace(ONE, cache="hit", rps=1000.0)]
    half = [replace(ONE, concurrency=HALF, rps=50.0, p99_ms=1.5)]
    ratios = ratios_of(rows_of([ONE, PEER, limit, torch, *slower, *cached, *half]))
    assert (ratios["over_best_peer"], ratios["over_best_peer_by_json"]) == (2, 1.5)
    assert (ratios["over_limit"], ratios["over_whole_vocabulary"]) == (0.5, 50)
    assert (ratios["cached_over_best_peer"], ratios["hits_over_best_peer"]) == (3, 20)
    assert ratios["p99_at_half_of_saturation_ms"] == 1.5
    assert ratios["over_whole_vocabulary_by_onnx"] is None


@pytest.mark.parametrize(
    ("whole", "share"),
    [
        ({"ndcg_at_10": 0.2, "sampled_ndcg_at_10": 0.199, "ndcg_loss": 0.005, "loss": 0.04}, 0.995),
        ({"hr_at_10": 0.25, "sampled_hr_at_10": 0.24, "loss": 0.04}, None),  # of an older version
        ({"ndcg_at_10": None, "sampled_ndcg_at_10": None, "ndcg_loss": None}, None),  # no queries
    ],
)
def test_the_share_of_the_catalog_s_ndcg_is_that_of_the_same_queries(
    whole: dict[str, float | None], share: float | None
) -> None:
    assert catalog_share({"full_catalog": {"queries": 9, "known": whole}}) == share
    assert catalog_share({}) is None


def test_the_document_gets_the_file_s_tables() -> None:
    """Everything between the marks is replaced, nothing outside."""
    text = "before\n<!-- bench:rows -->\nold\n<!-- end -->\nafter"
    assert tables.fill(text, {"rows": "new"}) == "before\n<!-- bench:rows -->\nnew\n<!-- end -->\nafter"


def test_the_document_has_a_place_for_every_table() -> None:
    text = tables.DOCUMENT.read_text(encoding="utf-8")
    for part in ("run", "rows", "ratios", "cpu", "refused"):
        assert f"<!-- bench:{part} -->" in text


RIGHT = Answer(["a", "b", "c"], [3.0, 2.0, 1.9995])


@pytest.mark.parametrize(
    ("answer", "same"),
    [
        (Answer(["a", "b", "c"], [3.0005, 2.0, 1.9995]), True),
        (Answer(["a", "c", "b"], [3.0, 2.0, 1.9995]), True),  # a tie
        (Answer(["b", "a", "c"], [3.0, 2.0, 1.9995]), False),
        (Answer(["a", "b", "c"], [3.01, 2.0, 1.9995]), False),
        (Answer(["a", "b"], [3.0, 2.0]), False),
        (Answer(["a", "d", "c"], [3.0, 2.5, 1.9995]), False),
    ],
)
def test_answers_agree_by_item_and_score(answer: Answer, same: bool) -> None:
    assert agree(answer, RIGHT) is same


def test_a_wrong_answer_is_shown() -> None:
    with pytest.raises(DisagreementError, match="; expected Answer"):
        check(lambda question: Answer(["x"], [1.0]), [Question(("i",))], [RIGHT])
