"""Measures `cesta score` beside a plain loop in torch, on the release of a build.

python -m loadtests.offline_scoring --out artifacts

main
├── measure_all     each command as a process of its own: time, processor time, memory
├── agreement       how many lists of the two are equal
└── write           artifacts/bench/offline-scoring-<time>.json; the table of docs/performance.md
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console

from ensemble.candidate_sampler.arrays import load_arrays
from loadtests.growth_offline.measured import measure
from loadtests.running.environments import ROOT
from loadtests.running.machine import ask_how_busy, describe_machine, remark_on
from loadtests.tables import DOCUMENT, fill
from operations.errors import CestaError
from operations.outputs import ARTIFACTS, Outputs

K: Final = 20
TIE: Final = 1e-4  # the two add up in another order
TORCH: Final = "a plain loop in torch"

Row = dict[str, Any]


def measure_all(out: Outputs, users: int, folder: Path, workers: Sequence[int]) -> dict[str, Row]:
    """The figures of each way to score the first ``users`` users. The results stay in ``folder``."""
    names = user_names(out)[:users]
    listed = folder / "users.csv"
    listed.write_text("\n".join(["user_id", *names]) + "\n", encoding="utf-8")
    score = [sys.executable, "-m", "operations.cli", "score", "--out", str(out.root), "--k", str(K)]
    commands = {
        f"cesta score --workers {n}": [
            *score,
            *("--users", str(listed), "--to", str(folder / f"scores-{n}"), "--workers", str(n)),
        ]
        for n in workers
    }
    loop = [sys.executable, "-m", "loadtests.peers.torch_scoring"]
    commands[TORCH] = [*loop, str(out.root), str(K), str(folder / "torch.npz"), str(users)]
    items = len(load_arrays(out.run / "arrays").popularity.score) - 1
    return {name: _measured(command, folder, len(names), items) for name, command in commands.items()}


def _measured(command: Sequence[str], folder: Path, users: int, items: int) -> Row:
    found = measure(command, folder, variables={"PYTHONPATH": str(ROOT)})
    if found.code:
        raise CestaError(f"{' '.join(command)} ended with {found.code}: {found.log.strip()[-300:]}")
    return {
        "users": users,
        "items": items,
        "wall_s": found.wall_s,
        "cpu_s": found.cpu_s,
        "peak_mib": found.peak_mib,
    }


def user_names(out: Outputs) -> list[str]:
    """The users of the run, in the order of their rows."""
    return [name.decode() for name in load_arrays(out.run / "arrays").user_ids.unpack()[1:]]


def agreement(out: Outputs, scores: Path, loop: Path) -> float:
    """The share of users to whom both give lists that are equal, but for ties."""
    item_ids = [item.decode() for item in load_arrays(out.run / "arrays").item_ids.unpack()]
    table = pq.read_table(scores, columns=["user_id", "item_id", "score"])
    ours: dict[str, list[tuple[str, float]]] = {}
    for user, item, score in zip(*(column.to_pylist() for column in table.columns), strict=True):
        ours.setdefault(user, []).append((item, score))
    with np.load(loop) as theirs:
        equal = [
            are_equal(ours[user], [item_ids[row] for row in rows], values)
            for user, rows, values in zip(user_names(out), theirs["rows"], theirs["scores"], strict=False)
        ]
    return float(np.mean(equal))


def are_equal(ours: list[tuple[str, float]], items: list[str], scores: Any) -> bool:
    """Have two lists equal scores, and the same items above the last score?"""
    if len(ours) != len(items) or any(abs(a - b) > TIE for (_, a), b in zip(ours, scores, strict=True)):
        return False
    least = ours[-1][1] + TIE  # items that tie with the last one may differ
    wanted = {item for item, score in zip(items, scores, strict=True) if score > least}
    return wanted <= {item for item, _ in ours}


def sections(result: dict[str, Any]) -> dict[str, str]:
    """The generated sections of the document by name, in markdown."""
    rows, machine = result["rows"], result["machine"]
    lines = [
        "| way | users/s | scores/s | wall | CPU | memory |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, row in rows.items():
        rate = row["users"] / row["wall_s"]
        figures = f"{rate:,.1f} | {rate * row['items'] / 1e6:,.1f} M | {row['wall_s']:.1f} s"
        lines.append(f"| {name} | {figures} | {row['cpu_s']:.1f} s | {row['peak_mib']:,.0f} MiB |")
    first = next(iter(rows.values()))
    run = (
        f"{result['started']}, {machine['cores']} cores of {machine['cpu']}; {first['users']:,} users, "
        f"{first['items']:,} items, the best {K}. Both give {result['equal']:.2%} of the users equal lists, "
        f"but for ties.{remark_on(result['busy_cores_before'])}"
    )
    return {"offline_scoring_run": run, "offline_scoring": "\n".join(lines)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the figures and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=ARTIFACTS, help="the folder of a build")
    parser.add_argument("--users", type=int, default=2**31, help="only the first ones")
    parser.add_argument("--workers", type=int, nargs="+", default=sorted({1, os.cpu_count() or 1}))
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    options = parser.parse_args(arguments)
    console, out = Console(stderr=True), Outputs(options.out)
    busy, started = ask_how_busy(console), datetime.now(UTC)
    folder = Path(tempfile.mkdtemp(prefix="cesta-offline-scoring-"))
    try:
        rows = measure_all(out, options.users, folder, options.workers)
        equal = agreement(out, folder / f"scores-{options.workers[0]}", folder / "torch.npz")
    finally:
        shutil.rmtree(folder)
    result = {
        "started": f"{started:%Y-%m-%d}",
        "machine": describe_machine(),
        "busy_cores_before": round(busy, 1),
        "rows": rows,
        "equal": equal,
    }
    path = ARTIFACTS / "bench" / f"offline-scoring-{started:%Y-%m-%dT%H%M%S}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    document: Path = options.document
    document.write_text(fill(document.read_text(encoding="utf-8"), sections(result)), encoding="utf-8")
    for line in sections(result).values():
        print(line)
    print(path)


if __name__ == "__main__":
    main()
