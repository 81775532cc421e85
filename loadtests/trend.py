"""Compares the ratios of this run with those of the last runs, and fails on a drop.

python -m loadtests.trend

Absolute figures differ from machine to machine. Ratios of one run do not: both sides of each were measured on
the same machine in the same hour. A ratio drops if it lies below the median of the last ten runs by more than
their spread, the highest value less the lowest. A run with a drop is not added to the history, so that the
next night is compared with the good runs again. `--accept` adds it, with the reason, when the drop is wanted.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

LAST: Final = 10  # runs that a run is compared with
FEWEST: Final = 5  # with fewer runs, their spread says nothing yet
LEAST_SPREAD: Final = 0.01  # of the median: rounding, and sums in another order
MEASURED: Final = ("known", "unknown", "repeat", "explore")

Ratios = dict[str, float]
Run = dict[str, Any]


def ratios_of_run(artifacts: Path) -> Ratios:
    """The ratios of the newest results of bench, growth and evaluate, by name; higher is better.

    Raises FileNotFoundError with the command that writes what is missing.
    """
    bench = _newest(artifacts / "bench", "[0-9]*.json", "make bench")
    growth = _newest(artifacts / "bench", "growth-*.json", "make growth")
    metrics = _newest(artifacts, "metrics.json", "make evaluate")
    return _of_bench(bench) | _of_growth(growth) | _of_metrics(metrics)


def find_drops(ratios: Mapping[str, float], history: Sequence[Run]) -> list[str]:
    """A sentence for each ratio that dropped, or that the last run had and this one lacks."""
    last = history[-LAST:]
    drops = []
    for name in last[-1]["ratios"] if last else ():
        earlier = [run["ratios"][name] for run in last if name in run["ratios"]]
        if name not in ratios:
            drops.append(f"{name} was not measured; the run of {last[-1]['at']} has {earlier[-1]:g}")
        elif len(earlier) >= FEWEST and ratios[name] < least(earlier):
            drops.append(
                f"{name} is {ratios[name]:g}; the median of the last {len(earlier)} runs is "
                f"{median(earlier):g}, and at least {least(earlier):.4g} is within their spread"
            )
    return drops


def least(earlier: Sequence[float]) -> float:
    """The lowest value that is no drop."""
    middle = median(earlier)
    return middle - max(max(earlier) - min(earlier), LEAST_SPREAD * abs(middle))


def _of_bench(result: Mapping[str, Any]) -> Ratios:
    """Without the two latencies in ms, which are no ratios."""
    ratios: Mapping[str, float | None] = result["ratios"]
    return {
        f"bench.{name}": value
        for name, value in ratios.items()
        if value is not None and not name.endswith("_ms")
    }


def _of_growth(result: Mapping[str, Any]) -> Ratios:
    """At each size, the best rate divided by that of a web app that scores all items; the index's recall."""
    ratios: Ratios = {}
    for row in result["rows"]:
        best = max(load["rps"] for load in row["load"].values())
        ratios[f"growth.over_whole_catalog.{row['items']}"] = round(best / row["whole_catalog"]["rps"], 2)
        ratios[f"growth.recall.{row['items']}"] = row["recall"]
    return ratios


def _of_metrics(metrics: Mapping[str, Any]) -> Ratios:
    """NDCG@10 of cesta divided by that of the best simple ranker, for each group of queries."""
    ratios: Ratios = {}
    for group in MEASURED:
        simple = max(ranker[group]["ndcg_at_10"] for ranker in metrics["baselines"].values())
        if simple:
            ratios[f"quality.over_best_baseline.{group}"] = round(metrics[group]["ndcg_at_10"] / simple, 4)
    return ratios


def _newest(folder: Path, pattern: str, command: str) -> dict[str, Any]:
    files = sorted(folder.glob(pattern))  # names begin with the time
    if not files:
        raise FileNotFoundError(f'{folder} has no {pattern}; run "{command}" first')
    result: dict[str, Any] = json.loads(files[-1].read_text(encoding="utf-8"))
    return result


def read_history(file: Path) -> list[Run]:
    """The runs so far, the oldest first; none without the file."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare this run's ratios with the history. Exit code 1: a drop; 2: a result is missing."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.trend", description=main.__doc__)
    add = parser.add_argument
    add("--artifacts", type=Path, default=Path("artifacts"), help="where results are (artifacts)")
    add("--history", type=Path, help="one run a line (ARTIFACTS/trend/history.jsonl)")
    add("--accept", default="", metavar="WHY", help="add the run to the history in spite of a drop")
    given = parser.parse_args(arguments)
    file = given.history or given.artifacts / "trend" / "history.jsonl"
    history = read_history(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()  # for the runs to come, also if this one is not added
    try:
        ratios = ratios_of_run(given.artifacts)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    drops = find_drops(ratios, history)
    for drop in drops:
        print(drop)
    if drops and not given.accept:
        print('not added to the history; if the drop is wanted, say so: ACCEPT="the reason" make trend')
        return 1
    run: Run = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "ratios": ratios}
    if drops:
        run |= {"accepted": given.accept}
        history = []  # the runs before it are no measure any more
    kept = [*history, run][-LAST:]
    file.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    print(f"{len(ratios)} ratios; {len(kept)} runs in {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
