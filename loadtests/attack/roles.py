"""Paths of other roles, and odd bodies on the paths that the supervisor answers.

The attacker's key has the role shop. Receipts of customers and purchases in their names are not for it; the
stock is, so its bodies are ones that change nothing.
"""

import json
import random
from typing import Any, Final

from loadtests.attack.place import Attack, Tally, shown
from loadtests.attack.wire import NONE, Line, write_request

RATE: Final = 100.0  # requests per second
FORBIDDEN: Final[tuple[tuple[str, str, Any], ...]] = (
    ("POST", "/v1/explain", {"user_id": "900", "k": 20}),
    ("POST", "/v1/explain", {"item_ids": ["x"] * 20}),
    ("POST", "/v1/events", {"events": [{"event_id": "e", "basket_id": "b", "item_ids": ["x"]}]}),
    ("GET", "/v1/events", None),
    ("POST", "/admin/rollback", {}),
    ("GET", "/admin/keys", None),
)
NAMES: Final = ("items", "version", "replace", "part", "parts", "item_id", "store_id", "available", "x", "")
VALUES: Final[tuple[Any, ...]] = (
    *(None, True, -1, 0, 1e308, 2**63, "", "x" * 200, "\x00", "\ud7ff", "../../etc/passwd", "%2e%2e"),
    *([], {}, [[]], [{}], [{"item_id": 1}], [{"item_id": "x" * 129, "available": False}]),
    *([{"item_id": "x", "available": "no"}], [{"item_id": "x", "store_id": [], "available": False}]),
)
REFUSED: Final = {400, 403, 404, 405, 409, 413, 415, 429}


def other_roles(tally: Tally) -> None:
    """Every path of another role answers 403."""
    key = tally.place.keys["attacker"]
    with Line(tally.place.http) as line:
        for number in tally.beats(RATE):
            method, path, body = FORBIDDEN[number % len(FORBIDDEN)]
            sent = b"" if body is None else json.dumps(body).encode()
            reply = line.ask(write_request(path, sent, key=key, method=method), method)
            tally.count(reply.status or NONE)
            if reply.status not in (403, 429):
                tally.blame(f"{method} {path} with a key of the role shop gives {reply.status}, not 403")


def odd_stock(tally: Tally) -> None:
    """Stock in another form than documented is refused with a sentence, and changes nothing."""
    rng, key = random.Random(), tally.place.keys["attacker"]
    with Line(tally.place.http) as line:
        for _ in tally.beats(RATE):
            body = {rng.choice(NAMES): rng.choice(VALUES) for _ in range(rng.randrange(1, 4))}
            body["never"] = True  # an unknown field, so that no body is right by chance
            sent = json.dumps(body).encode()
            if rng.random() < 0.2:
                sent = sent[: rng.randrange(len(sent))] + rng.randbytes(rng.randrange(4))
            if rng.random() < 0.02:
                sent += b" " * 1_100_000  # above the limit of this path
            request = write_request("/v1/availability", sent, key=key, method="PUT")
            reply = line.ask(request, "PUT")
            tally.count(reply.status or NONE)
            if reply.status and reply.status not in REFUSED:
                tally.blame(f"{reply.status} for {shown(request.replace(key.encode(), b'KEY'))}")


ATTACKS: Final = (Attack("other roles", other_roles), Attack("odd stock", odd_stock))
