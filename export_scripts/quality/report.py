"""Show the content of metrics.json: a table on the terminal, and an HTML page.

The page is one file that loads nothing else. This module computes its content, and ``report.html.j2`` draws
it. Groups without queries, such as the repeats of a shop without users, are left out of the plots.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import jinja2
from pydantic import JsonValue
from rich.console import Console
from rich.table import Table

from export_scripts.quality.plots import METRIC, Axis, Plot, Points, axis, dots, lines, number, percent
from export_scripts.quality.results import (
    Calibration,
    CandidateShares,
    ColdResult,
    ColdSummary,
    Lists,
    Metrics,
    RankerResult,
    Shares,
    SourceShares,
)
from operations.records.comparison import Comparison

NAME: Final = "report.html"
TEMPLATE: Final = Path(__file__).with_name("report.html.j2")
NOTHING: Final = (
    "warning: nothing was measured. No basket of the test period (splits.test_days, at most the last eighth "
    "of the time covered) holds two of the {items:,} items that sold often enough (sampler.min_support). "
    "Give receipts over a longer time, or lower sampler.min_support."
)


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


def rows(metrics: Metrics) -> list[Row]:
    """Baselines, then rivals, then cesta."""
    table = [Row(name, result) for name, result in metrics.get("baselines", {}).items()]
    for name, rival in metrics.get("rivals", {}).items():
        table.append(Row(name, rival if "known" in rival else None, rival["note"]))
    return [*table, Row("cesta", metrics, ours=True)]


def html(metrics: Metrics) -> str:
    """Render the page of one metrics.json."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters.update(number=number, percent=percent)
    ranked = sorted(_measured(metrics), key=lambda row: row.hr, reverse=True)
    kinds = {"known user": metrics["known"], "unknown user": metrics["unknown"]}
    kinds |= {"repeat": metrics["repeat"], "explore": metrics["explore"]}
    sizes = {f"{name} in the basket": group for name, group in metrics["by_basket_size"].items()}
    supports = {f"sold {name} times": group for name, group in metrics["by_support"].items()}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        metrics=metrics,
        since=_date(metrics["protocol"]["test_from"]),
        table=rows(metrics),
        ranked=ranked,
        rankers=dots({row.name: row.result["known"] for row in ranked}, "cesta"),
        groups=dots(kinds | sizes | supports),
        cold=dots(_cold_groups(metrics["cold"])),
        recall=_recall(metrics["candidates"], metrics["protocol"]["candidates"]),
        curve=_curve(metrics.get("curve") or []),
        calibration=_calibration(metrics["calibration"]),
        readings=readings(metrics),
        against=_describe_against(against) if (against := metrics.get("against")) else "",
    )


def print_report(path: Path, console: Console) -> None:
    """Print the tables of a metrics file: cesta beside the other rankers, then recall by source.

    If nothing could be measured, print one sentence instead.
    """
    metrics: Metrics = json.loads(path.read_text())
    if not metrics["protocol"]["queries"]:
        console.print(
            NOTHING.format(items=metrics["protocol"]["ranked_items"]), style="yellow", highlight=False
        )
        return
    title = f"test-month protocol, {metrics['protocol']['queries']:,} queries; last three columns: HR@10"
    table = Table(title=title, title_justify="left")
    for name in ("ranker", "HR@10", "95 %", "NDCG@10", "MRR", "repeat", "explore", "no user"):
        table.add_column(name, justify="left" if name == "ranker" else "right", no_wrap=name != "ranker")
    for row in rows(metrics):
        if row.ours:
            table.add_section()
        table.add_row(row.name, *_cells(row.result), style="bold" if row.ours else None)
    console.print(table)
    for name, rival in metrics.get("rivals", {}).items():
        console.print(f"{name}: {rival['note']}", style="dim", highlight=False, markup=False)
    console.print(_describe_sampler_loss(metrics), highlight=False)
    console.print(_describe_cold(metrics["cold"]), highlight=False)
    console.print(_sources(metrics["candidates"]["by_source"]))
    if against := metrics.get("against"):
        console.print(_describe_against(against), highlight=False, markup=False)


def _measured(metrics: Metrics) -> list[MeasuredRow]:
    return [
        MeasuredRow(row.name, row.result, row.result["known"][METRIC] or 0, row.ours)
        for row in rows(metrics)
        if row.result is not None
    ]


def _cells(result: RankerResult | None) -> list[str]:
    if result is None:
        return []
    known = result["known"]
    interval = "-".join(map(number, known["interval"][METRIC])) if known["interval"] else ""
    by_kind = [result["repeat"], result["explore"], result["unknown"]]
    return [
        number(known[METRIC]),
        interval,
        number(known["ndcg_at_10"]),
        number(known["mrr"]),
        *(number(kind[METRIC]) for kind in by_kind),
    ]


def _sources(by_source: dict[str, SourceShares]) -> Table:
    """The recall of each source, one line a source."""
    table = Table()
    for name in ("source", "recall", "repeat", "explore", "alone", "alone, explore"):
        table.add_column(name, justify="left" if name == "source" else "right")
    for name, source in by_source.items():
        shares = [source["recall"], source["repeat"], source["explore"]]
        table.add_row(name, *map(number, [*shares, source["alone"]["recall"], source["alone"]["explore"]]))
    return table


def readings(metrics: Metrics) -> dict[str, str]:
    """Describe each plot in a sentence or two."""
    return {
        "rankers": _describe_comparison(metrics),
        "groups": _describe_kinds(metrics),
        "recall": _describe_sampler_loss(metrics),
        "cold": _describe_cold(metrics["cold"]),
        "calibration": _describe_calibration(metrics["calibration"]),
        "lists": _describe_lists(metrics["lists"]),
    }


def _best_other(metrics: Metrics) -> MeasuredRow | None:
    others = [row for row in _measured(metrics) if not row.ours and row.result["known"]["n"]]
    return max(others, key=lambda row: row.hr, default=None)


def _describe_comparison(metrics: Metrics) -> str:
    best, ours = _best_other(metrics), metrics["known"][METRIC]
    if best is None or ours is None:
        return "No test basket had two items that can be ranked, so there is nothing to compare."
    difference = ""
    if best.hr:
        more = "more" if ours >= best.hr else "less"
        difference = f" Cesta finds {percent(abs(ours / best.hr - 1), 0)} {more}."
    return (
        f"The hidden item is among cesta's first ten for {percent(ours)} of the queries. "
        f"The best other ranker, {best.name}, reaches {percent(best.hr)}.{difference}"
    )


def _describe_kinds(metrics: Metrics) -> str:
    unknown = percent(metrics["unknown"][METRIC])
    repeat, explore = percent(metrics["repeat"][METRIC]), percent(metrics["explore"][METRIC])
    if not metrics["repeat"]["n"]:
        return f"No user bought a hidden item before. From the basket alone cesta finds {unknown}."
    return (
        f"Cesta finds {repeat} of the items that their user bought before (repeat), and {explore} of the "
        f"others (explore). From the basket alone it finds {unknown}."
    )


def _describe_sampler_loss(metrics: Metrics) -> str:
    recall, catalog = metrics["candidates"], metrics["full_catalog"]
    text = (
        f"{percent(recall['recall'])} of the hidden items are among the {metrics['protocol']['candidates']} "
        f"candidates ({percent(recall['repeat'])} of repeat, {percent(recall['explore'])} of explore)."
    )
    loss = catalog["known"]["loss"]
    if loss is None:
        return text
    costs = [_cost(loss, "HR@10"), _cost(catalog["known"].get("ndcg_loss"), "NDCG@10")]
    cost = " and ".join(filter(None, costs))
    queries = f"{catalog['queries']:,} queries"
    return f"{text} Compared with ranking the whole catalog, the sampler {cost} ({queries})."


def _cost(loss: float | None, measure: str) -> str:
    """Describe a loss; nothing if it was not measured, as in metrics of older versions."""
    if loss is None:
        return ""
    return f"{'costs' if loss >= 0 else 'gains'} {percent(abs(loss))} of {measure}"


def _cold_groups(cold: ColdResult) -> dict[str, ColdSummary]:
    return {
        "all cold items": cold["all"],
        "sold before": cold["sold"],
        "never sold before": cold["never_sold"],
        "repeat": cold["repeat"],
        "explore": cold["explore"],
    }


def _describe_cold(cold: ColdResult) -> str:
    bar, n = cold["fewer_than"], cold["all"]["n"]
    if not n:
        return f"No hidden item was cold: in fewer than {bar} baskets before, with a category."
    kinds = {"repeat": cold["repeat"], "explore": cold["explore"], "never sold": cold["never_sold"]}
    by_kind = ", ".join(f"{name} {number(kind[METRIC])}" for name, kind in kinds.items())
    return (
        f"Cold items, in fewer than {bar} baskets before, are measured separately ({n:,} queries): "
        f"{percent(cold['all']['recall'])} are candidates, HR@10 {number(cold['all'][METRIC])} ({by_kind})."
    )


def _describe_calibration(calibration: Calibration) -> str:
    expected, observed = calibration["expected"], calibration["observed"]
    if expected is None or observed is None:
        return "There are no queries to compare predictions with."
    sentence = (
        f"The scores predict an HR@10 of {percent(expected)}; the observed HR@10 is {percent(observed)}."
    )
    if expected <= observed:
        return sentence
    return f"{sentence} The scorer has learnt only from queries whose hidden item is a candidate."


def _describe_lists(variety: Lists) -> str:
    if variety["coverage"] is None:
        return "There are no lists."
    share = variety["repeats"]
    repeats = "" if share is None else f" {percent(share, 0)} of their places hold repeats."
    return (
        f"The lists show {percent(variety['coverage'])} of the catalog. They are as varied as "
        f"{variety['effective_items']:,.0f} items that are shown equally often.{repeats}"
    )


def _describe_against(against: dict[str, JsonValue]) -> str:
    """The comparison with the active release in a sentence or two."""
    comparison = Comparison.model_validate(against)
    if not comparison.n:
        return f"Not compared with the active release {comparison.release}: {comparison.problem}."
    ours, theirs = comparison.candidate["ndcg_at_10"], comparison.active["ndcg_at_10"]
    low, high = comparison.interval["ndcg_at_10"]
    return (
        f"On the same {comparison.n:,} questions since {comparison.since}, NDCG@10 is {number(ours)}, and "
        f"the active release {comparison.release} reaches {number(theirs)}: a difference of "
        f"{comparison.difference['ndcg_at_10']:+.4f} (95 % interval {low:+.4f} to {high:+.4f})."
    )


class Recall(NamedTuple):
    """Recall by list length as a plot, and by source at C."""

    plot: Plot
    sources: dict[str, SourceShares]


def _recall(candidates: CandidateShares, c: int) -> Recall:
    at: dict[int, Shares] = {int(n): shares for n, shares in candidates["at"].items()}
    at[c] = candidates
    sizes = sorted(at)

    def points(values: list[float | None]) -> Points:
        return [(float(n), value) for n, value in zip(sizes, values, strict=True) if value is not None]

    by_kind = {
        "repeat": points([at[n]["repeat"] for n in sizes]),
        "all": points([at[n]["recall"] for n in sizes]),
        "explore": points([at[n]["explore"] for n in sizes]),
    }
    marks = [(f"{n:,}", 100 * n / sizes[-1]) for n in sizes]
    sources = {
        name: shares for name, shares in candidates["by_source"].items() if shares["recall"] is not None
    }
    return Recall(lines(by_kind, Axis(sizes[-1], marks), axis(1)), sources)


def _curve(epochs: list[dict[str, float]]) -> dict[str, Plot]:
    """Plot loss and HR@10 on validation by epoch; no plots for fewer than two epochs."""
    if len(epochs) < 2:
        return {}
    last = max(epoch["epoch"] for epoch in epochs)
    x = Axis(last, [(str(epoch["epoch"]), 100 * epoch["epoch"] / last) for epoch in epochs])
    plots = {}
    for key, label in ((METRIC, "HR@10"), ("loss", "loss")):
        values = [(float(epoch["epoch"]), float(epoch[key])) for epoch in epochs]
        low, high = min(value for _, value in values), max(value for _, value in values)
        spread = (high - low) or 1
        bottom = low - spread / 10
        marks = [(number(value), 100 * (value - bottom) / (1.2 * spread)) for value in (low, high)]
        plot = lines({label: [(e, value - bottom) for e, value in values]}, x, Axis(1.2 * spread, marks))
        titles = [f"epoch {e:g}: {number(value, 4)}" for e, value in values]
        plots[label] = plot._replace(series=[plot.series[0]._replace(titles=titles)])
    return plots


def _calibration(calibration: Calibration) -> Plot | None:
    """Plot observed against predicted probabilities, with the diagonal."""
    if not calibration["bins"]:
        return None
    scale = axis(max(max(b["predicted"], b["observed"]) for b in calibration["bins"]))
    points_of = {
        "as predicted": [(0.0, 0.0), (scale.end, scale.end)],
        "observed": [(b["predicted"], b["observed"]) for b in calibration["bins"]],
    }
    return lines(points_of, scale, scale)


def _date(seconds: int | None) -> str:
    """Format the start of the test period; empty for a shop without time stamps, whose unit is baskets."""
    return "" if seconds is None or seconds < 10**8 else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"
