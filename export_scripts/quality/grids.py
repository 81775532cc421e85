"""The tables of the report, the same on the terminal and on the page: rows of text by kind of query.

A shop whose queries name no users has no columns about them: every query is asked in one way only.
"""

from typing import Final, NamedTuple

from export_scripts.quality.plots import METRIC, number
from export_scripts.quality.results import (
    BestOther,
    Difference,
    Metrics,
    RankerResult,
    Shares,
    SourceShares,
    Summary,
)

OURS: Final = "cesta"
TEXT: Final = frozenset({"measure", "best other"})  # columns of words, beside the first
NDCG: Final = "ndcg_at_10"
KINDS: Final = {  # of best_other, in words
    "known": "known user",
    "unknown": "no user",
    "repeat": "repeat",
    "explore": "explore",
    "new_known": "new only",
    "new_unknown": "new only, no user",
}


class Grid(NamedTuple):
    """A table: what it shows, the names of the columns, and its lines."""

    title: str
    header: list[str]
    lines: list[list[str]]


class Row(NamedTuple):
    """A ranker's line in the tables; the result is None if the ranker was not measured."""

    name: str
    result: RankerResult | None
    note: str = ""  # a rival's settings, or how to install what is missing
    ours: bool = False


class MeasuredRow(NamedTuple):
    """A measured ranker and its HR@10 for known users."""

    name: str
    result: RankerResult
    hr: float
    ours: bool


def has_users(metrics: Metrics) -> bool:
    """Does any query name its user? Metrics of older versions do not say."""
    protocol = metrics["protocol"]
    return protocol.get("known_users", protocol["queries"]) > 0


def rows(metrics: Metrics) -> list[Row]:
    """Baselines, then rivals, then cesta."""
    table = [Row(name, result) for name, result in metrics.get("baselines", {}).items()]
    for name, rival in metrics.get("rivals", {}).items():
        table.append(Row(name, rival if "known" in rival else None, rival["note"]))
    return [*table, Row(OURS, metrics, ours=True)]


def measured_rows(metrics: Metrics) -> list[MeasuredRow]:
    """The rankers that were measured."""
    return [
        MeasuredRow(row.name, row.result, row.result["known"][METRIC] or 0, row.ours)
        for row in rows(metrics)
        if row.result is not None
    ]


def best_other(metrics: Metrics) -> MeasuredRow | None:
    """The ranker with the best HR@10 beside cesta."""
    others = [row for row in measured_rows(metrics) if not row.ours and row.result["known"]["n"]]
    return max(others, key=lambda row: row.hr, default=None)


def rankers(metrics: Metrics) -> Grid:
    """All rankers; one that was not measured has a name only."""
    users = has_users(metrics)
    header = [
        "ranker",
        "HR@10",
        "95 %",
        "NDCG@10",
        "MRR",
        *(["repeat", "explore", "no user"] if users else []),
    ]
    title = f"test-month protocol, {metrics['protocol']['queries']:,} queries"
    title += "; last three columns: HR@10" if users else ", which name no users"
    return Grid(title, header, [[row.name, *_cells(row.result, users)] for row in rows(metrics)])


def _cells(result: RankerResult | None, users: bool) -> list[str]:
    if result is None:
        return []
    known = result["known"]
    by_kind = [result["repeat"], result["explore"], result["unknown"]] if users else []
    return [
        number(known[METRIC]),
        _interval(known),
        number(known["ndcg_at_10"]),
        number(known["mrr"]),
        *(number(kind[METRIC]) for kind in by_kind),
    ]


def new_only(metrics: Metrics) -> Grid | None:
    """All rankers among the items that are new to the customer; None if nobody asked for one."""
    measured = metrics.get("new_only")
    if not measured:
        return None
    n = measured[OURS]["known"]["n"]
    lines = []
    for name in [row.name for row in rows(metrics) if row.name in measured]:
        known, unknown = measured[name]["known"], measured[name]["unknown"]
        with_user = [number(known[METRIC]), _interval(known), number(known[NDCG])]
        without = [number(unknown[METRIC]), number(unknown[NDCG])]
        lines.append([name, *with_user, *without, _difference(measured[name]["customer_adds"][METRIC])])
    return Grid(
        f"new only: items bought before are taken out of lists and queries; {n:,} queries",
        ["ranker", "HR@10", "95 %", "NDCG@10", "no user", "NDCG@10", "user adds to HR@10"],
        lines,
    )


def with_best_other(metrics: Metrics) -> Grid | None:
    """Cesta minus the best other ranker by kind of query; None if nothing was compared."""
    compared = metrics.get("best_other")
    if not compared:
        return None
    kinds = KINDS if has_users(metrics) else {"known": "all"}
    lines = []
    for kind in filter(compared.__contains__, kinds):
        for metric, name in ((METRIC, "HR@10"), (NDCG, "NDCG@10")):
            best = compared[kind][metric]
            lines.append([kinds[kind], name, best["ranker"], number(best["value"]), _difference(best)])
    title = "cesta minus the best other ranker, query by query, with the 95 % interval"
    return Grid(title, ["queries", "measure", "best other", "its value", "cesta adds"], lines)


def frontier(metrics: Metrics) -> Grid | None:
    """What the values of ``ranking.explore`` give; None if no value matters."""
    measured = metrics.get("frontier")
    if not measured or not measured["points"]:
        return None
    lines = []
    for point in measured["points"]:
        used = " (in use)" if point["value"] == measured["explore"] else ""
        figures = (point[METRIC], point[NDCG], point["repeat"], point["explore"])
        lines.append([f"{point['value']:g}{used}", *map(number, figures)])
    title = "repeat or explore: known users by the value of ranking.explore; last two columns: HR@10"
    return Grid(title, ["value", "HR@10", "NDCG@10", "repeat", "explore"], lines)


def stores(metrics: Metrics) -> Grid | None:
    """Tabulate what asking with the store adds, in all and by store; None if no query names one."""
    measured = metrics.get("stores")
    if not measured:
        return None
    everything, blind, adds = measured["with_store"], measured["without_store"], measured["store_adds"]
    lines = [
        [
            "all",
            f"{everything['n']:,}",
            number(everything[METRIC]),
            number(everything[NDCG]),
            number(blind[NDCG]),
            number(measured["on_sale"]),
            number(measured["on_sale_without_store"]),
        ]
    ]
    for name, store in measured["by_store"].items():
        figures = (store[METRIC], store[NDCG], store["ndcg_without_store"])
        shares = (store["on_sale"], store["on_sale_without_store"])
        lines.append([name, f"{store['n']:,}", *map(number, figures), *map(number, shares)])
    title = (
        f"asked with the store of the basket, {measured['stores']:,} stores; the store adds to NDCG@10 "
        f"{_difference(adds[NDCG])}, to the share on sale {_difference(adds['on_sale'])}"
    )
    header = ["store", "queries", "HR@10", "NDCG@10", "no store", "on sale", "on sale, no store"]
    return Grid(title, header, lines)


def sources(metrics: Metrics) -> Grid:
    """The recall of each source."""
    users = has_users(metrics)
    header = ["source", "recall", "repeat", "explore", "alone", "alone, explore"]
    lines = []
    for name, source in metrics["candidates"]["by_source"].items():
        cells = [*_shares(source, users), number(source["alone"]["recall"])]
        lines.append([name, *cells, *([number(source["alone"]["explore"])] if users else [])])
    return Grid("", header if users else ["source", "recall", "alone"], lines)


def _shares(shares: Shares | SourceShares, users: bool) -> list[str]:
    kinds = [shares["recall"], shares["repeat"], shares["explore"]]
    return [number(share) for share in (kinds if users else kinds[:1])]


def _interval(group: Summary) -> str:
    return "-".join(map(number, group["interval"][METRIC])) if group["interval"] else ""


def _difference(difference: Difference | BestOther) -> str:
    """Such as ``+0.012 (+0.004 to +0.020)``."""
    low, high = difference["interval"]
    return f"{difference['difference']:+.3f} ({low:+.3f} to {high:+.3f})"
