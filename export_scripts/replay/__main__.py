"""What staleness costs: replays the last weeks of a shop with releases of several schedules.

python -m export_scripts.replay --out artifacts                 # the weeks on which a schedule is chosen
python -m export_scripts.replay --out artifacts --held-out      # and the last four, looked at once

main
├── Replay.run            trainings, and the answers of each day (kept by day in OUT/replay)
│   └── try_candidate     each weekly release and planted faults beside the release before
├── collect               the figures of what is there
└── document.write        tables and plot of docs/quality.md, if nothing was reduced

No verb of cesta: it takes hours, and a shop runs it once, to choose its schedule.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from export_scripts.commands.memory import keep_freed_memory
from export_scripts.commands.options import chosen_settings
from export_scripts.replay import document
from export_scripts.replay.figures import collect
from export_scripts.replay.plan import EVERY_DAYS, WEEK
from export_scripts.replay.run import Replay
from operations.errors import CestaError
from operations.outputs import ARTIFACTS, Outputs
from operations.shipped.commit import find_commit

FOLDER: Final = "replay"
RESULTS: Final = "replay.json"
WEEKS: Final = 16
HELD_OUT: Final = 4
DAILY_WEEKS: Final = 4
ALWAYS_WARM: Final = "retrieval.warm_starts=1000"  # none starts anew


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m export_scripts.replay", description=main.__doc__)
    parser.add_argument("--out", type=Path, default=ARTIFACTS, help="as for cesta build: etl has run")
    parser.add_argument("--settings", type=Path, help="a toml, as for cesta build")
    parser.add_argument("--set", action="append", dest="changes", help="one setting, e.g. train.epochs=2")
    parser.add_argument("--schedules", nargs="+", choices=EVERY_DAYS, default=list(EVERY_DAYS))
    parser.add_argument("--weeks", type=int, default=WEEKS, help="in all; %(default)s")
    parser.add_argument("--held-out-weeks", type=int, default=HELD_OUT, help="the last ones; %(default)s")
    parser.add_argument("--held-out", action="store_true", help="replay the held-out weeks, too")
    parser.add_argument(
        "--daily-weeks", type=int, default=DAILY_WEEKS, help="with daily releases; %(default)s"
    )
    parser.add_argument("--only-weeks", type=int, help="replay so many of the first weeks")
    parser.add_argument("--warm", action="store_true", help="each training goes on from the last weekly one")
    parser.add_argument("--without-trials", action="store_true", help="do not try the gate")
    parser.add_argument("--only-write", action="store_true", help="replay nothing: collect what is there")
    parser.add_argument(
        "--document", type=Path, help="write its sections; docs/quality.md for a whole replay"
    )
    given = parser.parse_args(arguments)
    try:
        return _run(given)
    except CestaError as error:
        print(error, file=sys.stderr)
        return 1


def _run(given: argparse.Namespace) -> int:
    keep_freed_memory()
    weeks = (given.weeks, given.held_out_weeks, given.daily_weeks)
    data, folder = Outputs(given.out).data, given.out / FOLDER
    settings = chosen_settings(given.settings, changes=given.changes)
    replay, cold = Replay.of(data, folder, settings, weeks), None
    if given.warm:
        settings = chosen_settings(given.settings, changes=[*(given.changes or []), ALWAYS_WARM])
        replay, cold = Replay.of(data, folder, settings, weeks, warm=True), replay
    until = WEEK * given.weeks if given.held_out else replay.plan.chosen_days
    until = min(until, WEEK * (given.only_weeks or given.weeks))
    if not given.only_write:
        replay.run(given.schedules, until, trials=not given.without_trials)
    described = {
        "measured": datetime.now(UTC).date().isoformat(),
        "commit": find_commit(),
        "changes": given.changes or [],
    }
    figures = {**described, **collect(replay, until, cold=cold, schedules=given.schedules)}
    results = replay.folder / RESULTS
    results.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    for name, content in document.sections(figures).items():
        print(f"\n{name}\n{content}")
    if given.document:
        if given.changes and given.document.resolve() == document.DOCUMENT:
            raise CestaError(
                f"{given.document} tells of whole replays only: give another --document with --set"
            )
        document.write(figures, given.document)
    print(f"\n{results}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
