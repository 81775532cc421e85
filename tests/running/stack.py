"""The whole stack on loopback, on toy releases; as `make stack` starts it, with other ports."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from operations.gateway.keys import add_key
from operations.releases import publish
from operations.releases.promote import promote
from operations.releases.stores.store import open_repository
from operations.stack import Addresses, run_stack
from operations.stack.keeper import Keeper
from tests.building import TOY_SAMPLER
from tests.building.runs import toy_run
from tests.running import needs
from tests.running.door import free_ports

PROGRAMS = {  # name → its start record
    "supervisor": "gateway/supervisor.started",
    "gateway": "gateway/run/nginx.started",
    "alertmanager": "alertmanager/alertmanager.started",
    "prometheus": "prometheus/prometheus.started",
}


@dataclass
class Stack:
    out: Path
    addresses: Addresses
    shop: str  # a key
    admin: str
    keepers: Sequence[Keeper]

    def ask(self, path: str, key: str, body: object = None, method: str | None = None) -> tuple[int, Any]:
        """Status and JSON of one request to the gateway."""
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.addresses.http}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def change(self, path: str, body: object = None) -> Any:
        """The operation of an admin's request, once it has ended."""
        status, operation = self.ask(path, self.admin, body, "POST")
        assert status == 202, operation
        while operation["state"] == "running":
            time.sleep(0.2)
            operation = self.ask(f"/admin/operations/{operation['id']}", self.admin)[1]
        return operation

    def recommend(self) -> int:
        """The release that answers."""
        status, answer = self.ask("/v1/recommend", self.shop, {"basket": ["i1"], "k": 3})
        assert status == 200, answer
        return int(answer["release"])

    def answers(self) -> bool:
        """Tell whether a shop is answered now."""
        with contextlib.suppress(OSError, ValueError):
            return self.ask("/v1/recommend", self.shop, {"basket": ["i1"]})[0] == 200
        return False

    def pid(self, name: str) -> int | None:
        """The process of a program by its start record; None while there is none."""
        with contextlib.suppress(OSError, ValueError):
            return int(json.loads((self.out / PROGRAMS[name]).read_text())["program"]["pid"])
        return None

    def query(self, promql: str) -> list[dict[str, Any]]:
        text = urllib.parse.urlencode({"query": promql})
        with urllib.request.urlopen(f"http://{self.addresses.prometheus}/api/v1/query?{text}") as answer:
            return list(json.load(answer)["data"]["result"])


def publish_toys(out: Path, releases: int) -> None:
    """Publish so many releases, which answer differently; the first is active."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
        for seed in range(1, releases + 1):
            publish.publish(toy_run(out / f"run-{seed}", seed), open_repository(out / "repository"))
    promote(open_repository(out / "repository"), 1)


@contextmanager
def open_stack(out: Path, *, with_keys: bool = True) -> Iterator[Stack]:
    """Run the stack on the repository in `out` until the block ends, with new keys, or none."""
    roles = {"web": "shop", "ops": "admin"}
    keys = [add_key(out / "gateway", name, role, 1000) if with_keys else "" for name, role in roles.items()]
    with (
        needs.debian_packages(),
        run_stack(out, str(out / "repository"), addresses := free_addresses()) as keepers,
    ):
        yield Stack(out, addresses, *keys, keepers)


def free_addresses() -> Addresses:
    return Addresses(*(f"127.0.0.1:{port}" for port in free_ports(len(fields(Addresses)))))


def eventually(condition: Callable[[], object], timeout_s: float = 90) -> None:
    """Poll, because Prometheus and nginx do not report that they have seen something."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "not within the time"
        time.sleep(0.1)
