"""Measures what counting or tracing costs: CPU time of two servers with the same requests in turns.

Run it by hand; it is not a test:

python -m tests.serving.cost_of_watching DATA REPOSITORY_A REPOSITORY_B [--trace URL]

DATA is an etl's output. The second repository may hold another sampler, or the same; with --trace its server
exports spans to URL.
"""

from __future__ import annotations

import argparse
import statistics
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton

from export_scripts.receipts.shop import Shop, load_shop
from operations.server.process import Server, ServerSettings
from tests.running.processes import stub_of

ROUNDS = 16
REQUESTS = {1: 150, 16: 25}  # batch size → requests of a round
TRACE = ("mode=opentelemetry", "level=TIMESTAMPS", "rate=0")


def main() -> None:
    """Print medians for both batch sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("data", "before", "after"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--trace", metavar="URL")
    given = parser.parse_args()
    settings = [*TRACE, f"opentelemetry,url={given.trace}"] if given.trace else []
    arguments = ((), tuple(f"--trace-config={setting}" for setting in settings))
    shop, rng = load_shop(given.data), np.random.default_rng(0)
    ports = {"http_port": 0, "grpc_port": 0, "metrics_port": 0}
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                Server(ServerSettings(repository=path, response_cache=0, extra_args=extra, **ports))
            )
            for path, extra in zip((given.before, given.after), arguments, strict=True)
        ]
        for server in servers:
            server.wait_ready()
        for batch, requests in REQUESTS.items():
            rounds = []
            for turn in range(ROUNDS):
                requests_of_turn = [_baskets(shop, rng, batch) for _ in range(requests)]
                order = servers if turn % 2 else servers[::-1]
                spent = {server.pid: _spent(server, requests_of_turn, turn) for server in order}
                rounds.append([spent[server.pid] for server in servers])
            _report(batch, np.array(rounds))


def _report(batch: int, spent: np.ndarray[Any, Any]) -> None:
    """Print µs per pass from (rounds, servers, processes) µs."""
    for i, process in enumerate(("sampler", "tritonserver")):
        before, after = np.median(spent[:, :, i], axis=0)
        more = statistics.median(spent[:, 1, i] - spent[:, 0, i])
        print(
            f"batch {batch:2}  {process:12}  {before:6.0f} µs → {after:6.0f} µs, differences {more:+.0f} µs"
        )


def _spent(server: Server, requests: list[list[Any]], turn: int) -> tuple[float, float]:
    """CPU time of sampler and tritonserver for one request, in µs."""
    pids = (stub_of(server.pid, "candidate_sampler"), server.pid)
    before = [_cpu_ns(pid) for pid in pids]
    with triton.InferenceServerClient(server.grpc) as client:
        for number, inputs in enumerate(requests, start=1):
            trace = f"00-{turn * 1000 + number:032x}-00000000000000aa-01"
            client.infer("recommender", inputs, headers={"traceparent": trace})
    sampler, server_itself = (
        (_cpu_ns(p) - b) / len(requests) / 1e3 for p, b in zip(pids, before, strict=True)
    )
    return sampler, server_itself


def _cpu_ns(pid: int) -> int:
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def _baskets(shop: Shop, rng: np.random.Generator, batch: int) -> list[Any]:
    """Real baskets of the last weeks, with their customers."""
    numbers = rng.integers(shop.n_baskets - shop.n_baskets // 20, shop.n_baskets, batch)
    ids = shop.catalog["item_id"].to_numpy()
    rows = [[str(i).encode() for i in ids[shop.basket(n)][:30]] for n in numbers]
    basket = np.full((batch, max(map(len, rows))), b"", object)
    for padded, row in zip(basket, rows, strict=True):
        padded[: len(row)] = row
    user = np.array([[shop.user_ids[shop.users[n]].encode()] for n in numbers], object)
    tensors = []
    for name, array in (("basket", basket), ("user_id", user)):
        tensors.append(triton.InferInput(name, array.shape, "BYTES"))
        tensors[-1].set_data_from_numpy(array)
    return tensors


if __name__ == "__main__":
    main()
