"""Attacks on the response cache: a question whose key equals that of an honest question comes first."""

import json
from collections.abc import Callable

import numpy as np
from tritonclient.grpc import service_pb2

from loadtests.attack.collisions import find_collision, inputs_of
from loadtests.attack.honest import read_tensors
from loadtests.attack.place import Attack, Place, Tally
from loadtests.attack.wire import Grpc, Line, make_message, write_question
from loadtests.questions import Question

RATE = 2.0  # collisions per second; one takes a second of one core


def poison_json(tally: Tally) -> None:
    """The poisoned question and the honest one over JSON."""
    _poison(tally, _ask_json)


def poison_grpc(tally: Tally) -> None:
    """The same over gRPC."""
    _poison(tally, _ask_grpc)


ATTACKS = (Attack("cache over JSON", poison_json), Attack("cache over gRPC", poison_grpc))


def _poison(tally: Tally, ask: Callable[[Place, Question, str], tuple[str, list[str]]]) -> None:
    place, rng = tally.place, np.random.default_rng()
    order = rng.permutation(len(place.victims))
    for number in tally.beats(RATE):
        victim = place.victims[order[number % len(order)]]
        bait = (place.item_ids[number % len(place.item_ids)],)
        user = find_collision(inputs_of(victim.question), bait, place.release, rng)
        poison = Question(bait, user)
        status, wrong = ask(place, poison, "attacker")
        tally.count(status)
        status, got = ask(place, victim.question, "honest")
        tally.count(status)
        if got != list(victim.item_ids):
            said = "the answer to another's question" if got == wrong else status
            tally.blame(f"{json.dumps(victim.question.json)} gets {said} after {json.dumps(poison.json)}")


def _ask_json(place: Place, question: Question, key: str) -> tuple[str, list[str]]:
    with Line(place.http) as line:
        reply = line.ask(write_question(place, question, key))
    items = json.loads(reply.body)["items"] if reply.status == 200 else []
    return str(reply.status), [item["item_id"] for item in items]


def _ask_grpc(place: Place, question: Question, key: str) -> tuple[str, list[str]]:
    with Grpc(place.grpc, place.keys[key]) as channel:
        status, content = channel.ask(make_message(inputs_of(question)).SerializeToString())
    if status != "OK":
        return status, []
    return status, read_tensors(service_pb2.ModelInferResponse.FromString(content))[0]
