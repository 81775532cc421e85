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

from export_scripts.quality import grids
from export_scripts.quality.grids import Grid, best_other, has_users, measured_rows, rows
from export_scripts.quality.plots import (
    METRIC,
    Axis,
    Field,
    Mark,
    Plot,
    Points,
    axis,
    dots,
    field,
    lines,
    number,
    percent,
)
from export_scripts.quality.results import (
    Calibrated,
    Calibration,
    CandidateShares,
    ColdResult,
    ColdSummary,
    Frontier,
    FrontierPoint,
    Lists,
    Metrics,
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


def html(metrics: Metrics) -> str:
    """Render the page of one metrics.json."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters.update(number=number, percent=percent)
    ranked = sorted(measured_rows(metrics), key=lambda row: row.hr, reverse=True)
    users = has_users(metrics)
    kinds = {"known user" if users else "all": metrics["known"]}
    if users:
        kinds |= {"unknown user": metrics["unknown"]}
        kinds |= {"repeat": metrics["repeat"], "explore": metrics["explore"]}
    sizes = {f"{name} in the basket": group for name, group in metrics["by_basket_size"].items()}
    supports = {f"sold {name} times": group for name, group in metrics["by_support"].items()}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        metrics=metrics,
        since=_date(metrics["protocol"]["test_from"]),
        users=users,
        table=rows(metrics),
        new_only=grids.new_only(metrics),
        best_other=grids.with_best_other(metrics),
        ranked=ranked,
        rankers=dots({row.name: row.result["known"] for row in ranked}, "cesta"),
        frontier=_frontier(metrics),
        frontier_table=grids.frontier(metrics),
        stores=grids.stores(metrics),
        groups=dots(kinds | sizes | supports),
        cold=dots(_cold_groups(metrics["cold"], users)),
        recall=_recall(metrics["candidates"], metrics["protocol"]["candidates"], users),
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
    console.print(_table(grids.rankers(metrics)))
    for name, rival in metrics.get("rivals", {}).items():
        console.print(f"{name}: {rival['note']}", style="dim", highlight=False, markup=False)
    tables = (grids.with_best_other, grids.new_only, grids.frontier, grids.stores)
    for grid in (table(metrics) for table in tables):
        if grid:
            console.print(_table(grid))
    console.print(_describe_sampler_loss(metrics), highlight=False)
    console.print(_describe_cold(metrics["cold"], has_users(metrics)), highlight=False)
    console.print(_table(grids.sources(metrics)))
    if against := metrics.get("against"):
        console.print(_describe_against(against), highlight=False, markup=False)


def _table(grid: Grid) -> Table:
    """A table for the terminal; text is on the left and may be wrapped, and numbers are not."""
    table = Table(title=grid.title or None, title_justify="left")
    for k, name in enumerate(grid.header):
        is_text = k == 0 or name in grids.TEXT
        table.add_column(name, justify="left" if is_text else "right", no_wrap=not is_text)
    for line in grid.lines:
        ours = line[0] == grids.OURS
        if ours:
            table.add_section()
        table.add_row(*line, style="bold" if ours else None)
    return table


def readings(metrics: Metrics) -> dict[str, str]:
    """Describe each plot in a sentence or two."""
    return {
        "rankers": _describe_comparison(metrics),
        "groups": _describe_kinds(metrics),
        "frontier": _describe_frontier(metrics.get("frontier")),
        "recall": _describe_sampler_loss(metrics),
        "cold": _describe_cold(metrics["cold"], has_users(metrics)),
        "calibration": _describe_calibration(metrics["calibration"]),
        "lists": _describe_lists(metrics["lists"]),
    }


def _describe_comparison(metrics: Metrics) -> str:
    best, ours = best_other(metrics), metrics["known"][METRIC]
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
    if not has_users(metrics):
        return f"No query names a user. From the basket alone cesta finds {unknown}."
    repeat, explore = percent(metrics["repeat"][METRIC]), percent(metrics["explore"][METRIC])
    if not metrics["repeat"]["n"]:
        return f"No user bought a hidden item before. From the basket alone cesta finds {unknown}."
    return (
        f"Cesta finds {repeat} of the items that their user bought before (repeat), and {explore} of the "
        f"others (explore). From the basket alone it finds {unknown}."
    )


def _describe_frontier(frontier: Frontier | None) -> str:
    if not frontier or not frontier["points"]:
        return ""
    by_value = {point["value"]: point for point in frontier["points"]}
    used = by_value[frontier["explore"]]
    chosen = frontier["chosen"]
    whose = "as validation chose" if used["value"] == chosen else f"validation chose {chosen:g}"
    least, most = by_value[min(by_value)], by_value[max(by_value)]
    return (
        f"The setting ranking.explore is {used['value']:g} ({whose}): HR@10 is {_both(used)}. The other "
        f"points need no training. They reach from {_both(least)} at {least['value']:g} to {_both(most)} at "
        f"{most['value']:g}."
    )


def _both(point: FrontierPoint) -> str:
    return f"{percent(point['repeat'])} of repeat and {percent(point['explore'])} of explore"


def _describe_sampler_loss(metrics: Metrics) -> str:
    recall, catalog = metrics["candidates"], metrics["full_catalog"]
    text = (
        f"{percent(recall['recall'])} of the hidden items are among the {metrics['protocol']['candidates']} "
        "candidates"
    )
    if has_users(metrics):
        text += f" ({percent(recall['repeat'])} of repeat, {percent(recall['explore'])} of explore)"
    text += "."
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


def _cold_groups(cold: ColdResult, users: bool) -> dict[str, ColdSummary]:
    groups = {
        "all cold items": cold["all"],
        "sold before": cold["sold"],
        "never sold before": cold["never_sold"],
    }
    return groups | ({"repeat": cold["repeat"], "explore": cold["explore"]} if users else {})


def _describe_cold(cold: ColdResult, users: bool) -> str:
    bar, n = cold["fewer_than"], cold["all"]["n"]
    if not n:
        return f"No hidden item was cold: in fewer than {bar} baskets before, with a category."
    kinds = {"repeat": cold["repeat"], "explore": cold["explore"]} if users else {}
    kinds |= {"never sold": cold["never_sold"]}
    by_kind = ", ".join(f"{name} {number(kind[METRIC])}" for name, kind in kinds.items())
    return (
        f"Cold items, in fewer than {bar} baskets before, are measured separately ({n:,} queries): "
        f"{percent(cold['all']['recall'])} are candidates, HR@10 {number(cold['all'][METRIC])} ({by_kind})."
    )


def _describe_calibration(calibration: Calibration) -> str:
    given = calibration.get("given_candidate")
    over_all = f"Over all queries {_promise(calibration)}."
    if calibration["expected"] is None:
        return "There are no queries to compare predictions with."
    if not given or given["expected"] is None:
        return over_all
    return (
        "A probability is a share among the candidates: it is conditional on the hidden item being one. Over "
        f"the {given['n']:,} queries where it is one, {_promise(given)}. {over_all}"
    )


def _promise(calibrated: Calibrated) -> str:
    return (
        f"the scores predict an HR@10 of {percent(calibrated['expected'])}, and the observed HR@10 is "
        f"{percent(calibrated['observed'])}"
    )


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


class Compared(NamedTuple):
    """The frontier of ``ranking.explore``, and the names of the other rankers by their labels."""

    plot: Field
    names: dict[str, str]


def _frontier(metrics: Metrics) -> Compared | None:
    """Plot explore against repeat for cesta's values and for each other ranker; None without values."""
    frontier = metrics.get("frontier")
    if not frontier or not frontier["points"]:
        return None
    line = [
        Mark(
            p["repeat"],
            p["explore"],
            f"{p['value']:+g}",
            f"{p['value']:+g}: {_pair(p['repeat'], p['explore'])}",
        )
        for p in frontier["points"]
    ]
    in_use = [p["value"] for p in frontier["points"]].index(frontier["explore"])
    single: list[Mark] = []
    names: dict[str, str] = {}
    for row in measured_rows(metrics):
        repeat, explore = row.result["repeat"][METRIC], row.result["explore"][METRIC]
        if row.ours or repeat is None or explore is None:
            continue
        label = str(len(names) + 1)
        names[label] = row.name
        single.append(Mark(repeat, explore, label, f"{row.name}: {_pair(repeat, explore)}"))
    return Compared(field(line, line[in_use], single), names)


def _pair(repeat: float, explore: float) -> str:
    return f"repeat {number(repeat)}, explore {number(explore)}"


class Recall(NamedTuple):
    """Recall by list length as a plot, and by source at C."""

    plot: Plot
    sources: dict[str, SourceShares]


def _recall(candidates: CandidateShares, c: int, users: bool) -> Recall:
    at: dict[int, Shares] = {int(n): shares for n, shares in candidates["at"].items()}
    at[c] = candidates
    sizes = sorted(at)

    def points(values: list[float | None]) -> Points:
        return [(float(n), value) for n, value in zip(sizes, values, strict=True) if value is not None]

    by_kind = {"all": points([at[n]["recall"] for n in sizes])}
    if users:
        repeat, explore = ([at[n]["repeat"] for n in sizes], [at[n]["explore"] for n in sizes])
        by_kind = {"repeat": points(repeat), **by_kind, "explore": points(explore)}
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
    given = calibration.get("given_candidate")
    kinds = {"all queries": calibration["bins"], "hidden item is a candidate": given["bins"] if given else []}
    scale = axis(max(max(b["predicted"], b["observed"]) for bins in kinds.values() for b in bins))
    observed = {name: [(b["predicted"], b["observed"]) for b in bins] for name, bins in kinds.items()}
    return lines({"as predicted": [(0.0, 0.0), (scale.end, scale.end)]} | observed, scale, scale)


def _date(seconds: int | None) -> str:
    """Format the start of the test period; empty for a shop without time stamps, whose unit is baskets."""
    return "" if seconds is None or seconds < 10**8 else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"
