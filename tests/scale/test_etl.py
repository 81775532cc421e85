"""The files of a shop are read by two nodes, and the written tables and parts are those of one process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.scale.cluster import Cluster, environment

FILES, LINES = 8, 20
NOTE = "x" * 300_000  # workers read 32 MiB or more


def test_the_files_of_a_table_are_read_by_workers(cluster: Cluster, tmp_path: Path) -> None:
    sales = tmp_path / "sales"
    sales.mkdir()
    for day in range(1, FILES + 1):
        lines = (f"{day}{n // 2},{n % 5},2024-03-{day:02} 10:00:00,{NOTE}\n" for n in range(LINES))
        text = "basket_id,item_id,timestamp,note\n" + "".join(lines)
        (sales / f"{day}.csv").write_text(text)
    command = [sys.executable, "-m", "operations.cli", "etl", "--transactions", str(sales), "--out"]
    here, there = tmp_path / "here", tmp_path / "there"
    subprocess.run([*command, str(here)], env=environment(), check=True)
    on_cluster = cluster.head.command(*command, there, "--engine", "ray", "--workers", "4")
    subprocess.run(on_cluster, env=environment(), check=True, timeout=240)
    assert contents(there / "data") == contents(here / "data")
    assert contents(there / "parts") == contents(here / "parts")
    assert len(list((there / "parts").glob("*.parquet"))) == FILES


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.*") if path.name != "files.json"}
