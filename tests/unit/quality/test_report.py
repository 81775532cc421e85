"""The page and the table are whole for any shop, and agree with metrics.json."""

import copy
import json
import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from export_scripts.quality import plots, report

NOBODY = {"hr_at_10": None, "ndcg_at_10": None, "mrr": None, "interval": None, "n": 0}
NO_LISTS = dict.fromkeys(("coverage", "effective_items", "gini", "novelty", "repeats"))
NO_SHARE = {"recall": None, "repeat": None, "explore": None}
COLD = ("all", "repeat", "explore", "sold", "never_sold")
SOURCES = ("usual", "together", "similar", "popular", "category")


def group(hr: float, n: int = 1000) -> dict[str, Any]:
    between = {name: [round(hr - 0.01, 4), round(hr + 0.01, 4)] for name in ("hr_at_10", "ndcg_at_10", "mrr")}
    return {"hr_at_10": hr, "ndcg_at_10": hr / 2, "mrr": hr / 3, "interval": between, "n": n}


def ranker(hr: float) -> dict[str, Any]:
    lists = {"coverage": 0.2, "effective_items": 900.0, "gini": 0.9, "novelty": 8.5, "repeats": 0.8}
    kinds = {"known": hr, "unknown": hr / 2, "repeat": 2 * hr, "explore": hr / 4}
    return {name: group(value) for name, value in kinds.items()} | {"lists": lists}


def new_only(hr: float) -> dict[str, Any]:
    added = {"difference": -0.002, "interval": [-0.01, 0.006]}
    adds = {"hr_at_10": added, "ndcg_at_10": added}
    return {"known": group(hr), "unknown": group(hr + 0.002), "customer_adds": adds}


def beside(value: float) -> dict[str, Any]:
    return {"ranker": "<b>lend</b>", "value": value, "difference": 0.04, "interval": [0.031, 0.05]}


def frontier() -> dict[str, Any]:
    """Three values, of which 0.6 is in use and 0.5 was chosen."""
    points = [
        {"value": value, "hr_at_10": 0.24, "ndcg_at_10": 0.15, "repeat": repeat, "explore": explore}
        for value, repeat, explore in ((-3.0, 0.5, 0.01), (0.5, 0.4, 0.08), (0.6, 0.39, 0.081))
    ]
    return {"explore": 0.6, "chosen": 0.5, "points": points}


def cold() -> dict[str, Any]:
    return {"fewer_than": 5} | {name: group(0.02, 300) | {"recall": 0.17} for name in COLD}


def measured() -> dict[str, Any]:
    """Metrics as evaluate writes them."""
    shares = {"recall": 0.66, "repeat": 0.97, "explore": 0.33}
    at = {"100": shares, "1000": shares}
    return {
        **ranker(0.24),
        "by_basket_size": {
            "1": group(0.31),
            "2-4": group(0.29),
            "5-9": group(0.24),
            "10+": copy.copy(NOBODY),
        },
        "by_support": {"5-19": group(0.08), "100+": group(0.32)},
        "candidates": {
            **shares,
            "at": at,
            "by_source": {name: {**shares, "alone": shares, "at": at} for name in SOURCES},
        },
        "cold": cold(),
        "full_catalog": {
            "queries": 2000,
            "known": {"hr_at_10": 0.25, "sampled_hr_at_10": 0.24, "loss": 0.04, "ndcg_loss": -0.01},
            "unknown": {"hr_at_10": 0.15, "sampled_hr_at_10": 0.15, "loss": 0.0},
        },
        "calibration": {
            "expected": 0.31,
            "observed": 0.24,
            "bins": [{"predicted": p, "observed": p / 2, "n": 9} for p in (0.01, 0.1)],
            "given_candidate": {
                "expected": 0.52,
                "observed": 0.5,
                "bins": [{"predicted": p, "observed": p, "n": 9} for p in (0.01, 0.1)],
                "n": 14_000,
            },
        },
        "new_only": {name: new_only(hr) for name, hr in (("popularity", 0.01), ("cesta", 0.09))},
        "best_other": {
            kind: {"hr_at_10": beside(0.2), "ndcg_at_10": beside(0.1)}
            for kind in ("known", "unknown", "repeat", "explore", "new_known", "new_unknown")
        },
        "baselines": {"popularity": ranker(0.05), "<b>lend</b>": ranker(0.2)},
        "frontier": frontier(),
        "rivals": {
            "EASE": ranker(0.13) | {"note": "l2 30"},
            "LightGBM": {"note": "not installed: pip install 'cesta[rivals]'"},
        },
        "protocol": {
            "queries": 22_130,
            "test_from": 1_512_345_678,
            "ranked_items": 26_826,
            "candidates": 600,
            "known_users": 22_130,
            "note": "One item is hidden.",
        },
    }


def nothing() -> dict[str, Any]:
    """Metrics of a shop whose test period has no query."""
    empty = dict.fromkeys(("known", "unknown", "repeat", "explore"), NOBODY) | {"lists": NO_LISTS}
    lost = {"hr_at_10": None, "sampled_hr_at_10": None, "loss": None}
    sources = {name: {**NO_SHARE, "alone": NO_SHARE, "at": {"100": NO_SHARE}} for name in SOURCES}
    return measured() | {
        **empty,
        "by_basket_size": {"1": NOBODY},
        "by_support": {"5-19": NOBODY},
        "candidates": {**NO_SHARE, "at": {"100": NO_SHARE}, "by_source": sources},
        "cold": cold() | {name: NOBODY | {"recall": None} for name in COLD},
        "full_catalog": {"queries": 0, "known": lost, "unknown": lost},
        "calibration": {"expected": None, "observed": None, "bins": []},
        "baselines": {"popularity": empty},
        "rivals": {},
        "new_only": {},
        "best_other": {},
        "frontier": {"explore": 0.0, "chosen": 0.0, "points": []},
        "protocol": measured()["protocol"] | {"queries": 0, "test_from": None, "known_users": 0},
    }


def without_users() -> dict[str, Any]:
    """Metrics without users or repeats: nobody is known to whom an item could be new."""
    shop = measured()
    for groups in (shop, *shop["baselines"].values()):
        groups |= {"repeat": NOBODY, "lists": groups["lists"] | {"repeats": None}}
    shop["candidates"] |= {"repeat": None}
    shop["protocol"] |= {"known_users": 0}
    return shop | {"new_only": {}, "frontier": frontier() | {"points": []}}


def terminal(metrics: dict[str, Any], folder: Path) -> str:
    """Return the printed report."""
    path, out = folder / "metrics.json", StringIO()
    path.write_text(json.dumps(metrics))
    report.print_report(path, Console(file=out, width=110))
    return out.getvalue()


class Balanced(HTMLParser):
    """Raises if a closed element is not open, or if one stays open."""

    VOID = frozenset({"meta", "line", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("shop", [measured, nothing, without_users])
def test_the_page_is_whole_and_asks_for_nothing(shop: Any) -> None:
    """It is well-formed, has no address of anything outside, and no None or nan in place of a number."""
    page = report.html(shop())
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert not re.search(r"https?:|src=|@import|url\(|<script|<link", page)
    assert not re.search(r"\b(None|nan|inf)\b", page)


def test_the_page_says_what_was_measured() -> None:
    """It has headline, plots and table."""
    page = report.html(measured())
    for text in (
        "24.0 %",
        "22,130 queries",
        "since 2017-12-04",
        "Compared with other rankers",
        "the sampler costs 4.0 % of HR@10 and gains 1.0 % of NDCG@10",
        "Cold items",
        "(300 queries): 17.0 % are candidates, HR@10 0.020",
    ):
        assert text in page
    assert "20 % more" in page  # 0.24 against the best other, 0.20
    assert "not installed: pip install &#39;cesta[rivals]&#39;" in page


def test_older_metrics_tell_of_hits_alone() -> None:
    """They have no NDCG@10 of the whole catalog, and nothing that is compared query by query."""
    older = measured()
    del older["full_catalog"]["known"]["ndcg_loss"]
    del older["new_only"], older["best_other"], older["frontier"]
    del older["protocol"]["known_users"], older["calibration"]["given_candidate"]
    page = report.html(older)
    assert "the sampler costs 4.0 % of HR@10 (2,000 queries)" in page
    assert "New items only" not in page
    assert "<th>explore</th>" in page


def test_predictions_are_compared_with_and_without_the_condition() -> None:
    """A probability is conditional on the hidden item being a candidate."""
    page = report.html(measured())
    assert (
        "Over the 14,000 queries where it is one, the scores predict an HR@10 of 52.0 %, and the observed "
        "HR@10 is 50.0 %. Over all queries the scores predict an HR@10 of 31.0 %, and the observed HR@10 is "
        "24.0 %."
    ) in page


def test_comparisons_stand_in_both_reports(tmp_path: Path) -> None:
    """Differences with their intervals, to the best other ranker and from the customer among new items."""
    text = terminal(measured(), tmp_path)
    for shown in (report.html(measured()), text):
        assert "+0.040 (+0.031 to +0.050)" in shown
        assert "-0.002 (-0.010 to +0.006)" in shown


def test_repeat_against_explore_stands_in_both_reports(tmp_path: Path) -> None:
    """The value in use stands out, and the other rankers are points with a number."""
    page, text = report.html(measured()), terminal(measured(), tmp_path)
    assert "+0.6 in use" in page
    assert "ranking.explore is 0.6 (validation chose 0.5): HR@10 is 39.0 % of repeat" in page
    assert "50.0 % of repeat and 1.0 % of explore at -3" in page
    assert "1 popularity, 2 &lt;b&gt;lend&lt;/b&gt;, 3 EASE." in page
    assert re.search(r"0\.6 \(in use\) +│ +0\.240 +│ +0\.150 +│ +0\.390 +│ +0\.081", text)


def test_labels_do_not_cover_each_other() -> None:
    """0.5 is too near to the value in use. Of two rankers at one place, the label of one is a line higher."""
    line = [plots.Mark(*at, label, "") for label, at in (("-3", (0.5, 0.01)), ("0.5", (0.4, 0.08)))]
    chosen = plots.Mark(0.39, 0.081, "0.6", "")
    drawn = plots.field([*line, chosen], chosen, [plots.Mark(0.1, 0.02, n, "") for n in "12"])
    assert [mark.label for mark in drawn.line] == ["-3", "", ""]
    assert (drawn.chosen.x, drawn.chosen.label) == (78, "0.6")
    assert [mark.lift for mark in drawn.single] == [0, 1]


@pytest.mark.parametrize("kind", ["page", "terminal"])
def test_without_users_nothing_is_said_about_them(kind: str, tmp_path: Path) -> None:
    """Neither known and unknown users nor repeat and explore: all queries are asked in one way."""
    shop = without_users()
    text = (
        terminal(shop, tmp_path)
        if kind == "terminal"
        else report.html(shop).split("<body>")[1].split("<h2>Legend")[0]
    )
    for word in ("explore", "repeat", "no user", "known user", "New items", "new only"):
        assert word not in text
    assert "+0.040 (+0.031 to +0.050)" in text


def test_names_are_text() -> None:
    """A ranker's name cannot become markup of the page."""
    page = report.html(measured())
    assert "&lt;b&gt;lend" in page
    assert "<b>lend" not in page


def test_groups_without_queries_are_left_out_of_the_plots() -> None:
    dots, _ = plots.dots(measured()["by_basket_size"])
    assert [dot.name for dot in dots] == ["1", "2-4", "5-9"]


def test_dots_stand_on_the_axis() -> None:
    """Five steps of 0.05 reach the largest bound, 0.25; 0.24 is at 96 % of that."""
    dots, axis = plots.dots({"one": group(0.24, 5)})
    assert axis.end == pytest.approx(0.25)
    assert (dots[0].at, dots[0].low, dots[0].high, dots[0].value) == (96, 92, 100, "0.240")
    assert [label for label, _ in axis.marks] == ["0", "0.05", "0.1", "0.15", "0.2", "0.25"]


def test_the_training_curve_is_drawn_if_there_is_one() -> None:
    """It has two lines, on validation; a checkpoint without a curve has no such plot."""
    curve = [{"epoch": e, "loss": 5 - e / 10, "hr_at_10": 0.2 + e / 100} for e in range(3)]
    page = report.html(measured() | {"curve": curve})
    assert "Training" in page
    assert "epoch 2: 0.2200" in page
    assert "Training" not in report.html(measured())
    assert "Training" not in report.html(measured() | {"curve": curve[:1]})


def test_a_curve_that_does_not_move_is_a_line() -> None:
    """Equal values have no spread to divide by."""
    still = [{"epoch": e, "loss": 5.0, "hr_at_10": 0.2} for e in range(2)]
    page = report.html(measured() | {"curve": still})
    assert "Training" in page
    assert "epoch 1: 0.2000" in page
    assert not re.search(r"\b(nan|inf)\b", page)


@pytest.mark.parametrize(
    ("value", "text"), [(0.238, "0.238"), (None, "-"), (1.0, "1.000"), (0.0, "0.000"), (8.55, "8.550")]
)
def test_numbers_are_rounded_and_missing_ones_are_dashes(value: float | None, text: str) -> None:
    assert plots.number(value) == text


@pytest.mark.parametrize("shop", [measured, without_users])
def test_the_terminal_table_fits(shop: Any, tmp_path: Path) -> None:
    """It has at most 110 columns. Ours is last, and a missing row has the way to get it."""
    lines = terminal(shop(), tmp_path).splitlines()
    assert max(map(len, lines)) <= 110
    our_row = next(line for line in lines if "cesta " in line)
    assert "0.240" in our_row
    assert any("not installed: pip install 'cesta[rivals]'" in line for line in lines)


def test_an_empty_test_period_is_one_warning(tmp_path: Path) -> None:
    """The warning replaces a table of dashes."""
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(nothing()))
    out = StringIO()
    report.print_report(path, Console(file=out, width=110))
    assert out.getvalue().startswith("warning: nothing was measured")
    assert "two of the 26,826 items that sold often enough (sampler.min_support)" in " ".join(
        out.getvalue().split()
    )
    assert "HR@10" not in out.getvalue()
    assert max(map(len, out.getvalue().splitlines())) <= 110
