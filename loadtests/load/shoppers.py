"""Locust's shoppers. They replay the test month's real baskets, with the month's gaps between visits.

    locust -f loadtests/load/shoppers.py --headless --shape smoke --host 127.0.0.1:8000
    locust … --wire grpc --host 127.0.0.1:8001
    CESTA_KEYS=KEY locust … --path /v1/recommend --host 127.0.0.1:8080

This is a closed loop: a shopper asks again after an answer. `make load` also runs open_loop.py.
"""

import http.client
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Protocol
from weakref import WeakKeyDictionary

import gevent
from locust import LoadTestShape, User, events, task
from locust.env import Environment

from cesta_client import Recommender
from loadtests.load.budgets import FILE, find_broken_limits, load_budget
from loadtests.load.shapes import SHAPES
from loadtests.questions import Question, Visit, gaps_between, visits_of_test_month
from loadtests.wires import GENERATE, WIRES, Wire, read_keys

TIMEOUT_S = 5.0
NEW_PER_SECOND = 50  # otherwise all shoppers would connect at the same moment
STEP_S = 0.05  # between two questions of one visit; real shoppers take much longer


class Shop(Protocol):
    """A connection to the server. Its methods may raise any exception if there is no answer."""

    def ask(self, question: Question) -> int:
        """Ask a question and return the number of items in the answer."""

    def close(self) -> None:
        """Close the connection."""


@dataclass
class Street:
    """The state that the shoppers of one Locust environment share."""

    options: Namespace
    visits: dict[str, Iterator[tuple[Visit, float]]]  # by kind of shopper, each with the gap that follows it
    shops: list[Shop] = field(default_factory=list)  # every open connection


STREETS: WeakKeyDictionary[Environment, Street] = WeakKeyDictionary()


class HttpShop:
    """A kept HTTP connection, as a shop's own server would have it."""

    def __init__(self, address: str, wire: Wire, key: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
        self._wire = wire
        self._headers = {"authorization": f"Bearer {key}"} if key else {}

    def ask(self, question: Question) -> int:
        body, wire_headers = self._wire.encode(question)
        headers = {"content-type": "application/json", **wire_headers, **self._headers}
        try:
            self._connection.request("POST", self._wire.path, body, headers)
            response = self._connection.getresponse()
            content = response.read()
        except BaseException:
            self._connection.close()  # the rest of an answer may still come
            raise
        if response.status != 200:
            raise ValueError(f"HTTP {response.status}: {content[:200]!r}")
        answer_headers = {name.lower(): value for name, value in response.getheaders()}
        return len(self._wire.decode(content, answer_headers).item_ids)

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
    """A shopper. All shoppers of one kind share its visits: a free shopper takes the next visit."""

    abstract = True
    kind = ""

    def on_start(self) -> None:
        street = STREETS[self.environment]
        self._shop = connect(self.environment)
        street.shops.append(self._shop)
        self._wire = street.options.wire
        self._visits = street.visits[self.kind]

    @task
    def visit(self) -> None:
        """Ask all questions of a visit, then wait for one of the month's gaps."""
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
            request_type=self._wire,
            name=self.kind,
            response_time=(time.perf_counter() - start) * 1000,
            response_length=items,
            exception=failure,
            context={},
        )


class ReturningHousehold(Shopper):
    """A known household. It sees the front page, then its whole basket."""

    kind = "returning"
    weight = 5


class AnonymousVisitor(Shopper):
    """A visitor without a user id. It looks at one product, then has a basket."""

    kind = "anonymous"
    weight = 3


class BasketFiller(Shopper):
    """A known household that puts items into the basket one by one, and asks after each item."""

    kind = "filling"
    weight = 2


class ChosenShape(LoadTestShape):
    """The shape of --shape, with the length of --length-s and the number of shoppers of --shoppers."""

    def tick(self) -> tuple[int, float] | None:
        assert self.runner is not None
        options = STREETS[self.runner.environment].options
        shape = SHAPES[options.shape]
        length_s, most = options.length_s or shape.length_s, options.shoppers or shape.shoppers
        passed_s: float = self.get_run_time()  # type: ignore[no-untyped-call]  # Locust declares no types here
        shoppers = shape.shoppers_at(passed_s, length_s, most)
        return None if shoppers is None else (shoppers, NEW_PER_SECOND)


def connect(environment: Environment) -> Shop:
    """Open a connection as the options say. Shoppers use the keys in turn."""
    street, keys = STREETS[environment], read_keys()
    address = str(environment.host).removeprefix("http://").rstrip("/")  # Locust's web page adds the scheme
    key = keys[len(street.shops) % len(keys)]
    if street.options.wire == "grpc":
        return GrpcShop(address, key)
    return HttpShop(address, WIRES[street.options.path], key)


@events.init_command_line_parser.add_listener
def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--release", type=Path, default=Path("artifacts"), help="the folder that cesta build wrote"
    )
    parser.add_argument("--shape", choices=sorted(SHAPES), default="smoke")
    parser.add_argument("--length-s", type=float, default=0, help="seconds; 0: the shape's own")
    parser.add_argument("--shoppers", type=int, default=0, help="most shoppers; 0: the shape's own")
    parser.add_argument("--gap-s", type=float, default=0.2, help="mean seconds between a shopper's visits")
    parser.add_argument("--wire", choices=("http", "grpc"), default="http")
    parser.add_argument("--path", choices=sorted(WIRES), default=GENERATE.path, help="HTTP path")
    parser.add_argument("--budgets", type=Path, default=FILE, help="a toml file with a table per shape")


@events.init.add_listener
def _prepare(environment: Environment, **_: object) -> None:
    options = environment.parsed_options
    assert options is not None  # Locust's command line always sets them
    if options.wire == "grpc":
        import grpc.experimental.gevent as grpc_gevent  # only for gRPC: it changes every later channel

        grpc_gevent.init_gevent()
    load_budget(options.shape, options.budgets)  # a missing budget fails before the run, not after it
    visits = visits_of_test_month(options.release / "data", options.release / "run")
    gaps = cycle(gaps_between(visits, options.gap_s).tolist())
    STREETS[environment] = Street(
        options,
        {
            kind: zip(cycle([visit for visit in visits if visit.kind == kind]), gaps, strict=False)
            for kind in {visit.kind for visit in visits}
        },
    )


@events.quitting.add_listener
def _check_budget(environment: Environment, **_: object) -> None:
    street, total = STREETS[environment], environment.stats.total
    for shop in street.shops:
        shop.close()  # at exit it is too late: gevent has ended, and gRPC would wait for it for ever
    measured = {
        f"p{percent}_ms": total.get_response_time_percentile(percent / 100) or 0.0 for percent in (50, 95, 99)
    }
    measured |= {"error_rate": total.fail_ratio, "requests_per_s": total.total_rps}
    sentences = find_broken_limits(load_budget(street.options.shape, street.options.budgets), measured)
    for sentence in sentences:
        print(f"budget [{street.options.shape}] broken: {sentence}", flush=True)
    environment.process_exit_code = 1 if sentences else 0
