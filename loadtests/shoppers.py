"""Locust's shoppers: they replay the test month's real baskets, with the gaps between visits as they were.

    locust -f loadtests/shoppers.py --headless --shape smoke --host 127.0.0.1:8000
    locust … --wire grpc --host 127.0.0.1:8001
    CESTA_KEYS=KEY locust … --path /v1/recommend --host 127.0.0.1:8080

A closed loop: a shopper asks again when answered. See open_loop.py for the other kind. `make load` runs both.
"""

import http.client
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any, Protocol

import gevent
from locust import LoadTestShape, User, events, task
from locust.env import Environment

from cesta_client import Recommender
from loadtests.budgets import FILE, broken, load_budget
from loadtests.questions import Question, Visit, arrivals, visits_of_test_month
from loadtests.shapes import SHAPES
from loadtests.wires import GENERATE, WIRES, Wire, keys

TIMEOUT_S = 5.0
NEW_A_SECOND = 50  # shoppers who came all at once would all connect at once
STEP_S = 0.05  # between two questions of one visit; as long as nobody really shops, but not at once


class Shop(Protocol):
    """A way to ask; raises anything when there is no good answer."""

    def ask(self, question: Question) -> int:
        """Ask, and return how many items came back."""

    def close(self) -> None:
        """Let go of the connection."""


class HttpShop:
    """A kept connection, as a shop's own server would have it."""

    def __init__(self, address: str, wire: Wire, key: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
        self._wire = wire
        self._headers = {"authorization": f"Bearer {key}"} if key else {}

    def ask(self, question: Question) -> int:
        body, more = self._wire.encode(question)
        headers = {"content-type": "application/json", **more, **self._headers}
        try:
            self._connection.request("POST", self._wire.path, body, headers)
            response = self._connection.getresponse()
            found = response.read()
        except BaseException:
            self._connection.close()  # half an answer may still be on its way
            raise
        if response.status != 200:
            raise ValueError(f"HTTP {response.status}: {found[:200]!r}")
        return len(self._wire.decode(found, response.headers).item_ids)

    def close(self) -> None:
        self._connection.close()


class GrpcShop:
    """The client over gRPC."""

    def __init__(self, address: str, key: str) -> None:
        self._shop = Recommender(address, timeout_s=TIMEOUT_S, retries=0, api_key=key or None)

    def ask(self, question: Question) -> int:
        return len(self._shop.recommend(question.basket, user_id=question.user_id or None, k=20))

    def close(self) -> None:
        self._shop.close()


class Shopper(User):
    """One of many who share the month's visits of their kind: whoever is free takes the next."""

    abstract = True
    kind = ""

    def on_start(self) -> None:
        self._shop = connect(self.environment)
        self.environment.shops.append(self._shop)  # type: ignore[attr-defined]
        self._visits: Iterator[tuple[Visit, float]] = self.environment.month[self.kind]  # type: ignore[attr-defined]

    @task
    def visit(self) -> None:
        """Ask all of a visit's questions, then stay away for one of the month's gaps."""
        visit, gap_s = next(self._visits)
        for question in visit.questions:
            self._ask(question)
            gevent.sleep(STEP_S)
        gevent.sleep(gap_s)

    def _ask(self, question: Question) -> None:
        start, failure, items = time.perf_counter(), None, 0
        try:
            items = self._shop.ask(question)
            if not items:
                raise ValueError(f"no item for {question}")
        except Exception as error:
            failure = error
        self.environment.events.request.fire(
            request_type=self.environment.parsed_options.wire,
            name=self.kind,
            response_time=(time.perf_counter() - start) * 1000,
            response_length=items,
            exception=failure,
            context={},
        )


class ReturningHousehold(Shopper):
    """Known; sees the front page, then its whole basket."""

    kind = "returning"
    weight = 5


class AnonymousVisitor(Shopper):
    """Nobody knows it; looks at one product, then has a basket."""

    kind = "anonymous"
    weight = 3


class BasketFiller(Shopper):
    """Known; puts item after item into the basket and is shown something each time."""

    kind = "filling"
    weight = 2


class ChosenShape(LoadTestShape):
    """The shape of --shape, as long as --length-s and with as many as --shoppers say."""

    def tick(self) -> tuple[int, float] | None:
        assert self.runner is not None
        options = self.runner.environment.parsed_options
        shape = SHAPES[options.shape]
        length_s, most = options.length_s or shape.length_s, options.shoppers or shape.shoppers
        shoppers = shape.shoppers_at(self.get_run_time(), length_s, most)
        return None if shoppers is None else (shoppers, NEW_A_SECOND)


def connect(environment: Environment) -> Shop:
    """As the options say; keys go round."""
    options = environment.parsed_options
    known = keys()
    address = str(environment.host).removeprefix("http://").rstrip("/")  # Locust's own page has the scheme
    key = known[len(environment.shops) % len(known)]  # type: ignore[attr-defined]
    if options.wire == "grpc":
        return GrpcShop(address, key)
    return HttpShop(address, WIRES[options.path], key)


@events.init_command_line_parser.add_listener
def _options(parser: ArgumentParser) -> None:
    parser.add_argument("--release", type=Path, default=Path("artifacts"), help="what cesta build left")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="smoke")
    parser.add_argument("--length-s", type=float, default=0, help="0: the shape's own")
    parser.add_argument("--shoppers", type=int, default=0, help="at most; 0: the shape's own")
    parser.add_argument("--gap-s", type=float, default=0.2, help="mean time between a shopper's visits")
    parser.add_argument("--wire", choices=("http", "grpc"), default="http")
    parser.add_argument("--path", choices=sorted(WIRES), default=GENERATE.path, help="of HTTP")
    parser.add_argument("--budgets", type=Path, default=FILE, help="toml with a table per shape")


@events.init.add_listener
def _prepare(environment: Environment, **_: Any) -> None:
    options = environment.parsed_options
    if options.wire == "grpc":
        import grpc.experimental.gevent as grpc_gevent  # only here: it reroutes every channel to come

        grpc_gevent.init_gevent()
    load_budget(options.shape, options.budgets)  # a missing one is found before the run, not after
    environment.shops = []  # type: ignore[attr-defined]
    visits = visits_of_test_month(options.release / "data", options.release / "run")
    gaps = cycle(arrivals(visits, options.gap_s).tolist())
    environment.month = {  # type: ignore[attr-defined]
        kind: zip(cycle([visit for visit in visits if visit.kind == kind]), gaps, strict=False)
        for kind in {visit.kind for visit in visits}
    }


@events.quitting.add_listener
def _judge(environment: Environment, **_: Any) -> None:
    for shop in environment.shops:  # type: ignore[attr-defined]
        shop.close()  # now: gRPC's own way at exit would wait for ever on gevent, which is gone by then
    total, options = environment.stats.total, environment.parsed_options
    measured = {
        f"p{percent}_ms": total.get_response_time_percentile(percent / 100) or 0.0 for percent in (50, 95, 99)
    }
    measured |= {"error_rate": total.fail_ratio, "requests_per_s": total.total_rps}
    sentences = broken(load_budget(options.shape, options.budgets), measured)
    for sentence in sentences:
        print(f"budget [{options.shape}] broken: {sentence}", flush=True)
    environment.process_exit_code = 1 if sentences else 0
