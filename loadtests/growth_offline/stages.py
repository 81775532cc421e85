"""The stages of a build as commands, each a process of its own, and the bar that etl is held to."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from export_scripts.settings import load_settings
from loadtests.growth_offline.measured import Measured, measure
from loadtests.running.environments import ROOT
from loadtests.shops.tables import SETTINGS
from operations.outputs import Outputs
from operations.records import manifest

BAR: Final = "DuckDB"  # names the bar among the stages
STAGES: Final = (BAR, "etl", "train", "evaluate", "export", "publish")
PUBLISHED_ONLY: Final = (
    3  # cesta publish: the release exists, but the gate or the machine objects to serving it
)

Row = dict[str, Any]


class Stage(NamedTuple):
    """One stage, its command, and the exit codes that are no failure."""

    name: str
    command: list[str]
    good: tuple[int, ...]


def stages_of(shop: Path, out: Path) -> list[Stage]:
    """Return the stages in order; each reads what those before it wrote below ``out``."""
    chosen = load_settings().evaluate
    few = {
        "queries": chosen.build_queries,
        "full_catalog": min(chosen.full_catalog, chosen.build_queries // 16),
    }
    fewer = [word for key, value in few.items() for word in ("--set", f"evaluate.{key}={value}")]
    given = ["--settings", str(shop / SETTINGS), "--out", str(out)]
    commands = [
        [sys.executable, "-m", "loadtests.growth_offline.duckdb_etl", str(shop), str(out / "bar")],
        [*_cesta("etl"), *given],
        [*_cesta("train"), *given],
        [*_cesta("evaluate"), *given, *fewer],
        [*_cesta("export"), *given],
        [*_cesta("publish"), "--out", str(out), "--offline", "--force"],
    ]
    return [
        Stage(name, command, (0, PUBLISHED_ONLY) if name == "publish" else (0,))
        for name, command in zip(STAGES, commands, strict=True)
    ]


def measure_stages(shop: Path, out: Path, limit: int | None) -> Iterator[tuple[str, Row]]:
    """Run the stages and yield the figures of each, up to one that fails. The bar may fail."""
    temporary = out / "temporary"
    temporary.mkdir(parents=True, exist_ok=True)
    variables = {
        "PYTHONPATH": str(ROOT),
        "XDG_STATE_HOME": str(out / "state"),  # the signing key
        "TMPDIR": str(temporary),
    }
    for stage in stages_of(shop, out):
        measured = measure(stage.command, out, limit, variables)
        yield stage.name, _describe(measured, stage)
        if measured.code not in stage.good and stage.name != BAR:
            return


def release_files(out: Path) -> dict[str, int]:
    """Return the bytes of each file of the run, by name; empty if no run was exported."""
    run = Outputs(out).run
    if not (run / manifest.NAME).exists():
        return {}
    return {p.relative_to(run).as_posix(): p.stat().st_size for p in sorted(run.rglob("*")) if p.is_file()}


def _describe(measured: Measured, stage: Stage) -> Row:
    row: Row = {
        "wall_s": measured.wall_s,
        "cpu_s": measured.cpu_s,
        "peak_mib": measured.peak_mib,
        "temporary_mib": measured.temporary_mib,
    }
    if measured.code in stage.good:
        return row | {"steps": _steps(measured.log)}
    return row | {"failed": "memory" if measured.killed else measured.log.strip()[-300:]}


def _steps(log: str) -> dict[str, dict[str, float]]:
    """Read the steps from the log's event "durations"; empty if there is none."""
    for line in reversed(log.splitlines()):
        if line.startswith("{") and '"durations"' in line:
            steps: dict[str, dict[str, float]] = json.loads(line)["steps"]
            return steps
    return {}


def _cesta(verb: str) -> list[str]:
    return [sys.executable, "-m", "operations.cli", verb]
