"""The torture test: keys of the cache, what the honest caller checks, and the judgement."""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from loadtests.attack import http2, paths, tensors
from loadtests.attack.collisions import LENGTH, cache_key, find_collision, inputs_of
from loadtests.attack.headers import PATHS
from loadtests.attack.honest import Asked, Expected, check_answer, choose
from loadtests.attack.place import Attack, Outcome
from loadtests.attack.report import Attacked, judge, summarise
from loadtests.attack.run import THEMES, choose_themes
from loadtests.attack.target import choose_ports
from loadtests.attack.wire import make_message, pack, write_request
from loadtests.questions import Question
from operations.records.golden_answers import Answer

RIGHT = Answer(item_ids=("a", "b", ""), scores=(2.0, 1.0, 0.0), reasons=(1, 2, 0))
VICTIM = {"basket": ["a", "b"], "user_id": ["u"]}


def test_the_key_depends_on_every_part_of_a_question() -> None:
    keys = [
        cache_key(1, VICTIM),
        cache_key(2, VICTIM),
        cache_key(1, VICTIM, model="recommender_canary"),
        cache_key(1, {"basket": ["ab"], "user_id": ["u"]}),
        cache_key(1, {"exclude": ["a", "b"], "user_id": ["u"]}),
    ]
    assert len(set(keys)) == len(keys)
    assert cache_key(1, dict(reversed(VICTIM.items()))) == keys[0]  # Triton sorts the inputs by name


@pytest.mark.parametrize("victim", [VICTIM, {"basket": [""], "user_id": [""]}, {**VICTIM, "exclude": ["é"]}])
def test_another_basket_gets_the_same_key(victim: dict[str, list[str]]) -> None:
    user = find_collision(victim, ["x"], 7, np.random.default_rng(1))
    assert len(user) == LENGTH
    assert cache_key(7, {"basket": ["x"], "user_id": [user]}) == cache_key(7, victim)


def test_basket_and_user_are_sent_even_when_they_are_empty() -> None:
    assert inputs_of(Question(())) == {"basket": [""], "user_id": [""]}


def test_an_answer_is_right_without_its_padding_and_up_to_rounding() -> None:
    assert check_answer(RIGHT, ["a", "b"], [2.00001, 1.0]) == ""
    assert check_answer(RIGHT, ["a"], [2.0]) == "1 items instead of 2"
    assert check_answer(RIGHT, ["c", "b"], [2.0, 1.0]) == "place 0 has c instead of a"


def test_half_of_the_honest_questions_are_new_on_both_wires() -> None:
    """50 questions are repeated; the others come once before any comes again."""
    expected = [Expected(Question((str(number),)), RIGHT) for number in range(250)]
    asked = [int(choose(number, expected).question.basket[0]) for number in range(400)]
    new = [number for number in asked if number >= 50]
    assert len(new) == len(set(new)) == 200
    assert Counter(place % 2 for place, number in enumerate(asked) if number >= 50) == {0: 100, 1: 100}


def attacked(begun: float = 0, **changes: object) -> Attacked:
    parts = {
        "restarts": 0,
        "deaths": [],
        "failures": Counter(),
        "healed": True,
        "outcome": Outcome(),
    } | changes
    attack = parts.pop("attack", Attack("some", lambda tally: None))
    return Attacked("theme", attack, begun, begun + 10, **parts)  # type: ignore[arg-type]


def test_a_quiet_run_has_no_findings() -> None:
    report = judge([attacked(), attacked(10)], [Asked(1, 0.002, "JSON"), Asked(11, 0.002, "gRPC")], [])
    report.check_throughput([0.8, 0.9, 0.7], [0.3, 0.73, 0.1])
    assert report.findings == []
    assert [len(one.honest) for one in report.attacked] == [1, 1]


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"outcome": Outcome(problems=["x gives 502"])}, "x gives 502"),
        ({"restarts": 1}, "Triton was started again 1 times"),
        ({"deaths": [11, 11]}, "2 workers of the gateway died, signals [11]"),
        ({"failures": Counter({"503 on recommend": 2})}, "the gateway's log has 2 times 503 on recommend"),
        (
            {"healed": False},
            "the attacker's key cannot use its slots again within 5 s; the gateway was restarted",
        ),
    ],
)
def test_harm_is_named(changes: dict[str, object], finding: str) -> None:
    report = judge([attacked(**changes)], [], [])
    assert report.findings == [f"theme, some: {finding}"]


def test_a_full_server_is_no_finding_for_an_attack_that_overloads() -> None:
    flood = Attack("flood", lambda tally: None, overloads=True)
    failures = Counter({"503 on recommend": 9, "502 on recommend": 1})
    report = judge([attacked(attack=flood, failures=failures)], [], [])
    assert report.findings == ["theme, flood: the gateway's log has 1 times 502 on recommend"]


def test_an_honest_failure_belongs_to_the_attack_beside_it() -> None:
    """What fails without an attack is reported once; what fails during a restart is not counted."""
    asked = [
        Asked(5, 0.1, "JSON", "503"),
        Asked(15, 0.1, "health", "405"),
        Asked(25, 0.1, "health", "405"),
        Asked(22, 0.1, "JSON", "no answer"),
        Asked(6, 0.1, "gRPC", broke=True),
    ]
    report = judge([attacked(), attacked(10)], asked, [(21, 23)])
    assert report.findings == [
        "without an attack, honest caller: 405",
        "theme, some: honest caller: 1 times 503",
        "theme, some: honest caller: 1 connections ended without an answer; it asked again",
    ]


def test_broken_connections_are_no_finding_where_workers_are_killed() -> None:
    kills = Attack("kills", lambda tally: None, kills=True)
    assert judge([attacked(attack=kills)], [Asked(1, 0.1, "JSON", broke=True)], []).findings == []


def test_throughput_must_come_back_to_nine_tenths() -> None:
    report = judge([], [], [])
    report.check_throughput([0.8, 0.9, 0.7], [0.71, 0.5])
    assert report.findings == ["throughput was 0.80 of Triton's before and is 0.71 after the attacks"]


def test_probes_have_no_part_in_the_latencies() -> None:
    asked = [*(Asked(0, n / 1000, "JSON") for n in range(101)), Asked(0, 9.0, "health", "429")]
    assert summarise(asked) == {
        "requests": 101,
        "failed": 0,
        "asked_again": 0,
        "probes": 1,
        "probes_failed": 1,
        "p50_ms": 50.0,
        "p99_ms": 99.0,
    }


def test_ports_are_below_those_of_connections() -> None:
    """A connection that the system opens meanwhile cannot take them."""
    ports = choose_ports(3)
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert len(set(ports)) == 3
    assert max(ports) < lowest


def test_themes_are_chosen_by_name() -> None:
    assert choose_themes("deadlines,headers") == ("deadlines", "headers")
    with pytest.raises(argparse.ArgumentTypeError, match="no theme nothing; themes: headers, paths"):
        choose_themes("headers,nothing")


def test_attacks_of_a_theme_have_names_of_their_own() -> None:
    for attacks in THEMES.values():
        assert len({attack.name for attack in attacks}) == len(attacks)


def test_no_spelling_is_the_path_itself() -> None:
    for _, path, _ in PATHS:
        assert path not in paths.spellings(path)


def test_strings_and_messages_have_the_form_of_the_client() -> None:
    assert pack(["é", ""]) == b"\x02\0\0\0\xc3\xa9\0\0\0\0"
    message = make_message({"basket": ["a", "b"]}, "some-id")
    assert (message.id, message.model_name, list(message.inputs[0].shape)) == (
        "some-id",
        "recommender",
        [1, 2],
    )


def test_a_request_is_written_as_it_is() -> None:
    request = write_request("/x", b"{}", [("A", "é"), (b"\xff", b"b\r\n c")], "k")
    assert request == (
        b"POST /x HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer k\r\nContent-Type: application/json\r\n"
        b"Content-Length: 2\r\nA: \xe9\r\n\xff: b\r\n c\r\n\r\n{}"
    )


def test_frames_and_header_fields_are_those_of_the_standards() -> None:
    """RFC 9113, section 4.1 and RFC 7541, sections 5.1 (1337 in 5 bits is 31, 154, 10) and 6.2.2."""
    assert http2.reset_stream(3) == b"\0\0\4\3\0\0\0\0\3\0\0\0\x08"
    assert http2.header_block([("te", "x")]) == b"\0\2te\1x"
    assert http2.header_block([("a", "b" * 300)])[3:6] == bytes((127, 0xAD, 1))  # 300 - 127 = 45 + 128


def test_random_changes_leave_json() -> None:
    """A list that is put into itself could not be written."""
    rng = random.Random(1)
    content = {"basket": ["a"], "queries": [{"k": 1}]}
    for _ in range(2000):
        tensors.change_value(content, rng)
        assert json.loads(json.dumps(content)) == content
