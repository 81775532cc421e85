"""What evaluate measured, for people: a table on the terminal, and a page to look at.

The page is one file that asks for nothing else: ``report.html.j2`` draws it, this module says what is on it.
Groups without queries, such as repeats in a shop without users, are left out of the plots.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import jinja2
from rich.console import Console
from rich.table import Table

NAME: Final = "report.html"
TEMPLATE: Final = Path(__file__).with_name("report.html.j2")
METRIC: Final = "hr_at_10"
NONE: Final = "-"  # what there is nothing of
NOTHING: Final = (
    "warning: nothing was measured. No basket of the test period (splits.test_days, at most the last eighth "
    "of the time covered) holds two of the {items:,} items that sold often enough (sampler.min_support); "
    "receipts over a longer time, or a lower bar, would help."
)
STEPS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5)  # between two marks of an axis
MOST_MARKS: Final = 6

Found = dict[str, Any]


class Row(NamedTuple):
    """A ranker's line in the tables."""

    name: str
    groups: Found  # known, unknown, repeat, explore, lists; or only the note of what is missing
    ours: bool = False

    @property
    def measured(self) -> bool:
        return "known" in self.groups


class Dot(NamedTuple):
    """A value with its interval on a common axis; all in percent of the axis' width."""

    name: str
    value: str
    at: float
    low: float
    high: float
    n: str
    ours: bool


class Axis(NamedTuple):
    """Marks of an axis from 0 to ``end``: (label, percent of the width)."""

    end: float
    marks: list[tuple[str, float]]


def rows(found: Found) -> list[Row]:
    """Baselines, then rivals, then ours."""
    others = {**found.get("baselines", {}), **found.get("rivals", {})}
    return [*(Row(name, groups) for name, groups in others.items()), Row("cesta", found, True)]


def number(value: float | None, digits: int = 3) -> str:
    """.238, and a dash for what there is none of."""
    if value is None:
        return NONE
    text = f"{value:.{digits}f}"
    return text.removeprefix("0") if digits and text != "0" else text


def percent(value: float | None, digits: int = 1) -> str:
    return NONE if value is None else f"{100 * value:.{digits}f} %"


def axis(most: float) -> Axis:
    """From 0 to a round number that is not below ``most``."""
    step = next((s for s in STEPS if most / s <= MOST_MARKS), STEPS[-1])
    marks = max(1, -(-most // step))
    end = marks * step
    return Axis(
        end, [(f"{i * step:.2g}".removeprefix("0") or "0", 100 * i / marks) for i in range(int(marks) + 1)]
    )


def dots(groups: dict[str, Found], ours: str = "") -> tuple[list[Dot], Axis]:
    """HR@10 of named groups, those without queries left out."""
    full = {name: g for name, g in groups.items() if g["n"]}
    scale = axis(max((g["interval"][METRIC][1] for g in full.values()), default=0.1))

    def at(value: float) -> float:
        return round(100 * value / scale.end, 2)

    return [
        Dot(
            name,
            number(g[METRIC]),
            at(g[METRIC]),
            *map(at, g["interval"][METRIC]),
            f"{g['n']:,}",
            name == ours,
        )
        for name, g in full.items()
    ], scale


def html(found: Found) -> str:
    """The page of one metrics.json."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters.update(number=number, percent=percent)
    table = rows(found)
    ranked = sorted(
        (r for r in table if r.measured), key=lambda r: r.groups["known"][METRIC] or 0, reverse=True
    )
    kinds = {"known user": found["known"], "unknown user": found["unknown"]}
    kinds |= {"repeat": found["repeat"], "explore": found["explore"]}
    sizes = {f"{name} in the basket": group for name, group in found["by_basket_size"].items()}
    supports = {f"sold {name} times": group for name, group in found["by_support"].items()}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        found=found,
        since=_date(found["protocol"]["test_from"]),
        table=table,
        ranked=ranked,
        rankers=dots({r.name: r.groups["known"] for r in ranked}, "cesta"),
        groups=dots(kinds | sizes | supports),
        cold=dots(_cold_groups(found["cold"])),
        recall=_recall(found["candidates"], found["protocol"]["candidates"]),
        curve=_curve(found.get("curve") or []),
        calibration=_calibration(found["calibration"]),
        readings=readings(found),
    )


def print_report(metrics: Path, console: Console) -> None:
    """The table of a metrics file: ours against the others, then what the sampler finds.

    One sentence if nothing could be measured.
    """
    found = json.loads(metrics.read_text())
    if not found["protocol"]["queries"]:
        console.print(
            NOTHING.format(items=found["protocol"]["ranked_items"]), style="yellow", highlight=False
        )
        return
    title = (
        f"Protocol W, test period, {found['protocol']['queries']:,} queries; HR@10 unless it says otherwise"
    )
    table = Table(title=title, title_justify="left")
    for name in ("ranker", "HR@10", "95 %", "NDCG@10", "MRR", "repeat", "explore", "no user"):
        table.add_column(name, justify="left" if name == "ranker" else "right", no_wrap=name != "ranker")
    for row in rows(found):
        if row.ours:
            table.add_section()
        table.add_row(*_cells(row), style="bold" if row.ours else None)
    console.print(table)
    for name, groups in found.get("rivals", {}).items():
        console.print(f"{name}: {groups['note']}", style="dim", highlight=False, markup=False)
    console.print(_lost_by_the_sampler(found), highlight=False)
    console.print(_cold(found["cold"]), highlight=False)
    console.print(_sources(found["candidates"]["by_source"]))


def _cells(row: Row) -> list[str]:
    if not row.measured:
        return [row.name]
    known = row.groups["known"]
    between = "-".join(map(number, known["interval"][METRIC])) if known["interval"] else ""
    others = [number(row.groups[split][METRIC]) for split in ("repeat", "explore", "unknown")]
    return [
        row.name,
        number(known[METRIC]),
        between,
        number(known["ndcg_at_10"]),
        number(known["mrr"]),
        *others,
    ]


def _sources(by_source: Found) -> Table:
    """Recall by source: a line each."""
    table = Table()
    for name in ("source", "recall", "repeat", "explore", "alone", "alone, explore"):
        table.add_column(name, justify="left" if name == "source" else "right")
    for name, found in by_source.items():
        own, alone = [found[key] for key in ("recall", "repeat", "explore")], found["alone"]
        table.add_row(name, *map(number, [*own, alone["recall"], alone["explore"]]))
    return table


def readings(found: Found) -> dict[str, str]:
    """One sentence for each plot."""
    return {
        "rankers": _against_the_best(found),
        "groups": _repeat_and_explore(found),
        "recall": _lost_by_the_sampler(found),
        "cold": _cold(found["cold"]),
        "calibration": _promise(found["calibration"]),
        "lists": _lists(found["lists"]),
    }


def _best_other(found: Found) -> Row | None:
    others = [r for r in rows(found) if r.measured and not r.ours and r.groups["known"]["n"]]
    return max(others, key=lambda r: r.groups["known"][METRIC], default=None)


def _against_the_best(found: Found) -> str:
    best, ours = _best_other(found), found["known"][METRIC]
    if best is None or ours is None:
        return "No test basket had two known items, so there is nothing to compare."
    theirs = best.groups["known"][METRIC]
    more = f", {percent(abs(ours / theirs - 1), 0)} {'more' if ours >= theirs else 'less'}" if theirs else ""
    return (
        f"The first ten hold the hidden item for {percent(ours)} of the queries; "
        f"the best of the others, {best.name}, finds {percent(theirs)}{more}."
    )


def _repeat_and_explore(found: Found) -> str:
    repeat, explore, unknown = (found[name] for name in ("repeat", "explore", "unknown"))
    if not repeat["n"]:
        return f"No user bought a hidden item before. The basket alone finds {percent(unknown[METRIC])}."
    return (
        f"What a user bought before is found in {percent(repeat[METRIC])}, what is new to the user in "
        f"{percent(explore[METRIC])}; with the basket alone it is {percent(unknown[METRIC])}."
    )


def _lost_by_the_sampler(found: Found) -> str:
    recall, whole = found["candidates"], found["full_catalog"]
    loss = whole.get("known", {}).get("loss")
    c = found["protocol"]["candidates"]
    text = f"{percent(recall['recall'])} of the hidden items are among the {c} candidates"
    text += f" ({percent(recall['repeat'])} of repeats, {percent(recall['explore'])} of new ones)."
    if loss is None:
        return text
    costs = [_cost(loss, "HR@10"), _cost(whole["known"].get("ndcg_loss"), "NDCG@10")]
    cost = " and ".join(filter(None, costs))
    return f"{text} Against scoring the whole catalog the sampler {cost} ({whole['queries']:,} queries)."


def _cost(loss: float | None, measure: str) -> str:
    """Nothing where it was not measured, as in metrics of older versions."""
    if loss is None:
        return ""
    return f"{'costs' if loss >= 0 else 'gains'} {percent(abs(loss))} of {measure}"


def _cold_groups(cold: Found) -> dict[str, Found]:
    names = {"all": "all of them", "sold": "sold at times", "never_sold": "never sold"}
    names |= {"repeat": "repeat", "explore": "explore"}
    return {label: cold[name] for name, label in names.items()}


def _cold(cold: Found) -> str:
    n = cold["all"]["n"]
    if not n:
        return (
            f"Nobody bought an item that was in fewer than {cold['fewer_than']} baskets and has a category."
        )
    hits = {name: number(cold[name][METRIC]) for name in ("all", "repeat", "explore", "never_sold")}
    return (
        f"Items in fewer than {cold['fewer_than']} baskets before, asked for apart ({n:,} queries): "
        f"{percent(cold['all']['recall'])} are candidates, HR@10 {hits['all']} (repeat {hits['repeat']}, "
        f"explore {hits['explore']}, never sold {hits['never_sold']})."
    )


def _promise(c: Found) -> str:
    if c["expected"] is None:
        return "There was nothing to be certain about."
    came = f"{percent(c['expected'])} hits in the first ten and {percent(c['observed'])} came true"
    over = c["expected"] > c["observed"]
    why = "; the scorer has learnt only from queries whose item the sampler found" if over else ""
    return f"The scores promise {came}{why}."


def _lists(lists: Found) -> str:
    if lists["coverage"] is None:
        return "No list was given."
    again = (
        "" if lists["repeats"] is None else f" {percent(lists['repeats'], 0)} of their places go to repeats."
    )
    return (
        f"The lists show {percent(lists['coverage'])} of the catalog; they are as varied as "
        f"{lists['effective_items']:,.0f} items shown equally often.{again}"
    )


class Series(NamedTuple):
    """A line of a plot; points in the plot's own coordinates."""

    name: str
    points: list[tuple[float, float]]
    titles: list[str]  # said when pointed at


class Plot(NamedTuple):
    """Lines over two axes; x marks are (label, percent), likewise y's."""

    series: list[Series]
    x: list[tuple[str, float]]
    y: list[tuple[str, float]]


def _plot(lines: dict[str, list[tuple[float, float]]], x: Axis, y: Axis) -> Plot:
    """Lines of (x, y) values, in percent of the axes."""
    return Plot(
        [
            Series(
                name,
                [(round(100 * a / x.end, 2), round(100 * b / y.end, 2)) for a, b in points],
                [f"{name}: {number(b)} at {a:g}" for a, b in points],
            )
            for name, points in lines.items()
            if points
        ],
        x.marks,
        y.marks,
    )


def _recall(candidates: Found, c: int) -> Found:
    """Recall by list length, and by source at C."""
    at = {int(n): shares for n, shares in candidates["at"].items()}
    at[c] = candidates
    lines = {
        label: [(float(n), at[n][key]) for n in sorted(at) if at[n][key] is not None]
        for key, label in (("repeat", "repeat"), ("recall", "all"), ("explore", "explore"))
    }
    most = max(at)
    marks = [(f"{n:,}", 100 * n / most) for n in sorted(at)]
    sources = {name: s for name, s in candidates["by_source"].items() if s["recall"] is not None}
    return {"plot": _plot(lines, Axis(most, marks), axis(1)), "sources": sources}


def _curve(epochs: list[Found]) -> dict[str, Plot]:
    """Loss and HR@10 on validation by epoch."""
    if len(epochs) < 2:
        return {}
    last = max(e["epoch"] for e in epochs)
    x = Axis(last, [(str(e["epoch"]), 100 * e["epoch"] / last) for e in epochs])
    plots = {}
    for key, label in (("hr_at_10", "HR@10"), ("loss", "loss")):
        values = [(float(e["epoch"]), float(e[key])) for e in epochs]
        low, high = min(v for _, v in values), max(v for _, v in values)
        spread = (high - low) or 1
        bottom = low - spread / 10
        y = Axis(1.2 * spread, [(number(v), 100 * (v - bottom) / (1.2 * spread)) for v in (low, high)])
        plots[label] = _plot({label: [(e, v - bottom) for e, v in values]}, x, y)
        titles = [f"epoch {e:g}: {number(v, 4)}" for e, v in values]
        plots[label].series[0] = plots[label].series[0]._replace(titles=titles)
    return plots


def _calibration(c: Found) -> Plot | None:
    """Observed against predicted, with the diagonal."""
    if not c["bins"]:
        return None
    scale = axis(max(max(b["predicted"], b["observed"]) for b in c["bins"]))
    lines = {
        "as promised": [(0.0, 0.0), (scale.end, scale.end)],
        "observed": [(b["predicted"], b["observed"]) for b in c["bins"]],
    }
    return _plot(lines, scale, scale)


def _date(seconds: int | None) -> str:
    """A shop without time stamps counts baskets instead of seconds, and says nothing."""
    return "" if seconds is None or seconds < 10**8 else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"
