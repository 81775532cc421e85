"""Attacks a gateway beside one honest caller, who must not fail once.

python -m loadtests.attack                                   # every attack, five minutes
python -m loadtests.attack --only deadlines,headers --seconds 60

main
├── start_target    supervisor, Triton and gateway on loopback
├── ask_honestly    the honest caller, in a process of its own, and probes of health
├── for each theme  its attacks in turn, in a process of their own; then what they left behind
└── show            a table of attacks, and a sentence for each thing that must not happen
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console

from loadtests.attack import run, tables
from loadtests.attack.honest import ask_honestly
from loadtests.attack.report import judge
from loadtests.attack.target import start_target
from loadtests.running.processes import stop_on_sigterm
from operations.outputs import Outputs

SETTLES_S: Final = 3.0  # of honest requests before the first attack and after the last one


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.attack", description=main.__doc__)
    add = parser.add_argument
    add(
        "--release",
        type=Path,
        default=Path("artifacts"),
        help="the folder that cesta build wrote (artifacts)",
    )
    add("--seconds", type=float, default=300.0, help="length of all attacks together (300)")
    add("--only", type=run.choose_themes, default=tuple(run.THEMES), help="themes, separated by commas")
    add("--out", type=Path, default=Path("artifacts/loadtests"), help="the folder for reports")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Attack a gateway for some minutes. Exit with 1 if an attack did any harm."""
    given = parse(arguments)
    stop_on_sigterm()
    given.out.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True, highlight=False)
    outputs = Outputs(given.release.absolute())
    material = run.prepare(outputs, given.seconds)
    with (
        tempfile.TemporaryDirectory(prefix="cesta-attack-") as folder,
        start_target(outputs.repository, Path(folder)) as target,
    ):
        place = target.place(item_ids=material.item_ids, victims=material.victims)
        before = run.measure_throughput(target, place)
        with ask_honestly(place, material.expected) as honest:
            time.sleep(SETTLES_S)
            attacked = run.attack(target, place, honest, given.only, given.seconds, console)
            time.sleep(SETTLES_S)
            report = judge(attacked, honest.read(), target.pauses)
        report.check_throughput(before, run.measure_throughput(target, place))
    file = given.out / f"attack-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    file.write_text(json.dumps(report.describe(), indent=1) + "\n", encoding="utf-8")
    tables.show(report, Console(width=tables.WIDTH))
    print(file)
    return 1 if report.findings else 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
