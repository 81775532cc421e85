"""Turns measurements into the rows and ratios of `artifacts/bench/<time>.json`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

HALF: Final = "half"  # replaces a concurrency: half of the highest rate of the server
OURS, PEER, WHOLE, LIMIT = "ours", "peer", "whole", "limit"

Row = dict[str, Any]
_SPREAD: Final = ("rps", "p50_ms", "p99_ms")


@dataclass(frozen=True)
class Measured:
    """One repetition of one server, wire, cache setting and concurrency."""

    server: str
    kind: str
    wire: str
    cache: str  # off; on: the month's questions in order; hit: a few questions, repeated
    concurrency: int | str
    rps: float
    p50_ms: float
    p99_ms: float
    errors: int
    cpu_us: dict[str, float]  # per request, by process
    generator_share: float  # of all CPU time
    pss_mib: float
    hit_share: float | None = None

    @property
    def key(self) -> tuple[str, str, str, int | str]:
        return self.server, self.wire, self.cache, self.concurrency


def rows_of(measured: Iterable[Measured]) -> list[Row]:
    """One row per server, wire, cache and concurrency: medians over repetitions, with the spread."""
    groups: dict[Any, list[Measured]] = {}
    for measurement in measured:
        groups.setdefault(measurement.key, []).append(measurement)
    return [_row(group) for group in groups.values()]


def ratios_of(rows: Sequence[Row]) -> dict[str, float | None]:
    """Ratios of the best rates of two kinds, without cache unless the name says so. None: not measured."""
    ours, peer = _best_rate(rows, OURS), _best_rate(rows, PEER)
    return {
        "over_best_peer": _ratio(ours, peer),
        "over_best_peer_by_json": _ratio(_best_rate(rows, OURS, wire="HTTP JSON"), peer),
        "over_whole_vocabulary": _ratio(ours, _best_rate(rows, WHOLE, name="torch")),
        "over_whole_vocabulary_by_onnx": _ratio(ours, _best_rate(rows, WHOLE, name="ONNX")),
        "over_limit": _ratio(ours, _best_rate(rows, LIMIT)),
        "cached_over_best_peer": _ratio(_best_rate(rows, OURS, cache="on"), peer),
        "hits_over_best_peer": _ratio(_best_rate(rows, OURS, cache="hit"), peer),
        "gateway_over_guarded_peer": _ratio(
            _best_rate(rows, OURS, name="gateway"), _best_rate(rows, PEER, name="keys")
        ),
        "p99_at_half_of_saturation_ms": _least_p99(rows, OURS),
        "best_peer_p99_at_half_of_saturation_ms": _least_p99(rows, PEER),
    }


def catalog_share(metrics: Mapping[str, Any]) -> float | None:
    """NDCG@10 (ranking quality) of the served answers divided by that of scoring the whole catalog.

    Both are measured on the same queries of known users. None if `cesta evaluate` did not measure them: there
    were no queries, or its version is older.
    """
    loss = metrics.get("full_catalog", {}).get("known", {}).get("ndcg_loss")
    return None if loss is None else round(1 - loss, 4)


def best_row(rows: Sequence[Row], accept: Callable[[Row], bool]) -> Row | None:
    """The accepted row with the most answers per second."""
    return max(filter(accept, rows), key=lambda row: row["rps"], default=None)


def _row(group: Sequence[Measured]) -> Row:
    first = group[0]
    names = sorted({name for row in group for name in row.cpu_us})
    cpu = {name: round(median(row.cpu_us.get(name, 0.0) for row in group), 1) for name in names}
    hits = [row.hit_share for row in group if row.hit_share is not None]
    return {
        "server": first.server,
        "wire": first.wire,
        "cache": first.cache,
        "concurrency": first.concurrency,
        **{name: round(median(getattr(row, name) for row in group), 3) for name in _SPREAD},
        "errors": sum(row.errors for row in group),
        "cpu_us_per_request": cpu,
        "cpu_us_per_request_total": round(sum(cpu.values()), 1) if cpu else None,
        "generator_cpu_share": round(median(row.generator_share for row in group), 3),
        "peak_mib": round(max(row.pss_mib for row in group), 1),
        "hit_share": round(median(hits), 3) if hits else None,
        "kind": first.kind,
        "repetitions": len(group),
        "spread": {
            name: [round(bound(getattr(row, name) for row in group), 3) for bound in (min, max)]
            for name in _SPREAD
        },
    }


def _best_rate(
    rows: Sequence[Row], kind: str, *, cache: str = "off", wire: str = "", name: str = ""
) -> float | None:
    best = best_row(
        rows,
        lambda row: (
            row["kind"] == kind
            and row["cache"] == cache
            and row["concurrency"] != HALF
            and (not wire or row["wire"] == wire)
            and name in row["server"]
        ),
    )
    return float(best["rps"]) if best else None


def _least_p99(rows: Sequence[Row], kind: str) -> float | None:
    """The p99 of the fastest server and wire of a kind, at half of its highest rate."""
    best = best_row(
        rows, lambda row: row["kind"] == kind and row["cache"] == "off" and row["concurrency"] != HALF
    )
    half = [
        row
        for row in rows
        if best
        and row["concurrency"] == HALF
        and (row["server"], row["wire"], row["cache"]) == (best["server"], best["wire"], best["cache"])
    ]
    return half[0]["p99_ms"] if half else None


def _ratio(dividend: float | None, divisor: float | None) -> float | None:
    return round(dividend / divisor, 3) if dividend and divisor else None
