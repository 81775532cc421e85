"""What a shop sees of a killed process, counted from replies."""

from loadtests.faults import tables
from loadtests.faults.__main__ import describe
from loadtests.faults.kinds import children, command
from loadtests.switching.replies import Reply
from operations.records.golden_answers import Answer

NOBODY = Answer(item_ids=(), scores=(), reasons=())


def reply(due: float, latency_s: float, *, failed: bool = False) -> Reply:
    return Reply(0, due, latency_s, failed, 1, NOBODY)


def test_an_outage_lasts_from_the_first_failure_to_the_last_one() -> None:
    replies = [
        reply(9.99, 0.02, failed=True),
        reply(10.5, 0.5, failed=True),
        reply(10.9, 0.2),
        reply(12, 0.01),
    ]
    outage = describe("x", replies, killed=10)
    assert (outage.requests, outage.failed, outage.first_s, outage.last_s) == (4, 2, 0, 1)
    assert outage.slowest_ms == 200


def test_nothing_failed() -> None:
    outage = describe("x", [reply(10, 0.01)], killed=10)
    assert (outage.failed, outage.first_s, outage.last_s) == (0, 0, 0)


def test_the_table_has_a_row_for_each_outage() -> None:
    outages = [
        vars(describe("a", [reply(1, 0.1)], 1)),
        vars(describe("b", [reply(1, 1, failed=True), reply(2, 1)], 1)),
    ]
    machine = {"cores": 2, "cpu": "x"}
    result = {
        "outages": outages,
        "rate": 100.0,
        "machine": machine,
        "started": "now",
        "busy_cores_before": 0.0,
    }
    assert tables.section(result).splitlines()[-2:] == [
        "| a | 1 | 0 | - | 100 ms |",
        "| b | 2 | 1 | 1.00 s | 1000 ms |",
    ]


def test_children_of_a_process_that_has_ended_are_none() -> None:
    assert (children(2**22 - 1), command(2**22 - 1)) == ([], "")
