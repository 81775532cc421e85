"""What was measured, as the rows and ratios of `artifacts/bench/<time>.json`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

HALF: Final = "half"  # in place of a concurrency: half of the rate that the server reached
OURS, PEER, WHOLE, LIMIT = "ours", "peer", "whole", "limit"

Row = dict[str, Any]
_SPREAD: Final = ("rps", "p50_ms", "p99_ms")


@dataclass(frozen=True)
class Measured:
    """One server, wire, cache and concurrency in one repetition; CPU µs per request by process."""

    server: str
    kind: str
    wire: str
    cache: str  # off; on: the month's questions in their order; hit: few questions again and again
    concurrency: int | str
    rps: float
    p50_ms: float
    p99_ms: float
    errors: int
    cpu_us: dict[str, float]
    generator_share: float  # of all CPU time used
    pss_mib: float
    hit_share: float | None = None

    @property
    def key(self) -> tuple[str, str, str, int | str]:
        return self.server, self.wire, self.cache, self.concurrency


def rows_of(measured: Iterable[Measured]) -> list[Row]:
    """One row per server, wire, cache and concurrency: medians over repetitions, [least, most] as spread."""
    groups: dict[Any, list[Measured]] = {}
    for one in measured:
        groups.setdefault(one.key, []).append(one)
    return [_row(group) for group in groups.values()]


def ratios_of(rows: Sequence[Row]) -> dict[str, float | None]:
    """The best of one by the best of another, uncached unless the name says otherwise; None: not measured."""
    ours, peer = _best(rows, OURS), _best(rows, PEER)
    return {
        "over_best_peer": _over(ours, peer),
        "over_best_peer_by_json": _over(_best(rows, OURS, wire="HTTP JSON"), peer),
        "over_whole_vocabulary": _over(ours, _best(rows, WHOLE, name="torch")),
        "over_whole_vocabulary_by_onnx": _over(ours, _best(rows, WHOLE, name="ONNX")),
        "over_limit": _over(ours, _best(rows, LIMIT)),
        "cached_over_best_peer": _over(_best(rows, OURS, cache="on"), peer),
        "hits_over_best_peer": _over(_best(rows, OURS, cache="hit"), peer),
        "p99_at_half_of_saturation_ms": _least_p99(rows, OURS),
        "best_peer_p99_at_half_of_saturation_ms": _least_p99(rows, PEER),
    }


def catalog_share(metrics: Mapping[str, Any]) -> float | None:
    """NDCG@10 of what is served over that of scoring the whole catalog, on the same queries of known users.

    None where `cesta evaluate` did not measure it: an older version, no queries.
    """
    loss = metrics.get("full_catalog", {}).get("known", {}).get("ndcg_loss")
    return None if loss is None else round(1 - loss, 4)


def best_row(rows: Sequence[Row], accept: Callable[[Row], bool]) -> Row | None:
    """The accepted row with the most answers a second."""
    return max(filter(accept, rows), key=lambda row: row["rps"], default=None)


def _row(group: Sequence[Measured]) -> Row:
    first = group[0]
    names = sorted({name for one in group for name in one.cpu_us})
    cpu = {name: round(median(one.cpu_us.get(name, 0.0) for one in group), 1) for name in names}
    hits = [one.hit_share for one in group if one.hit_share is not None]
    return {
        "server": first.server,
        "wire": first.wire,
        "cache": first.cache,
        "concurrency": first.concurrency,
        **{name: round(median(getattr(one, name) for one in group), 3) for name in _SPREAD},
        "errors": sum(one.errors for one in group),
        "cpu_us_per_request": cpu,
        "cpu_us_per_request_total": round(sum(cpu.values()), 1) if cpu else None,
        "generator_cpu_share": round(median(one.generator_share for one in group), 3),
        "peak_mib": round(max(one.pss_mib for one in group), 1),
        "hit_share": round(median(hits), 3) if hits else None,
        "kind": first.kind,
        "repetitions": len(group),
        "spread": {n: [round(f(getattr(one, n) for one in group), 3) for f in (min, max)] for n in _SPREAD},
    }


def _best(
    rows: Sequence[Row], kind: str, *, cache: str = "off", wire: str = "", name: str = ""
) -> float | None:
    found = best_row(
        rows,
        lambda r: (
            r["kind"] == kind
            and r["cache"] == cache
            and r["concurrency"] != HALF
            and (not wire or r["wire"] == wire)
            and name in r["server"]
        ),
    )
    return float(found["rps"]) if found else None


def _least_p99(rows: Sequence[Row], kind: str) -> float | None:
    """Of the fastest server and wire of a kind: its p99 at half of what it reached."""
    best = best_row(rows, lambda r: r["kind"] == kind and r["cache"] == "off" and r["concurrency"] != HALF)
    half = [
        r
        for r in rows
        if best
        and r["concurrency"] == HALF
        and (r["server"], r["wire"], r["cache"]) == (best["server"], best["wire"], best["cache"])
    ]
    return half[0]["p99_ms"] if half else None


def _over(one: float | None, other: float | None) -> float | None:
    return round(one / other, 3) if one and other else None
