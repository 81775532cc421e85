"""Real builds by an edited copy of the code: only the stages run that use what was edited."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export_scripts.freshness.code import ROOT
from operations.outputs import Outputs
from operations.releases.signatures.verify import verify_release
from operations.releases.stores.store import open_repository
from tests.building.cheap_builds import CHEAP
from tests.building.shops import make_shop

FOLDERS = ("export_scripts", "operations", "ensemble", "model_repository")
STAGES = {"etl", "train", "evaluate", "export", "publish"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code, with numba's compiled kernels where there are some."""
    copy = tmp_path_factory.mktemp("tree")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder)
    return copy


def ran(tree: Path, out: Path, settings: dict[str, Any]) -> set[str]:
    """Build with the code of ``tree``, in a process of its own; the stages that ran."""
    changes = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    done = subprocess.run(
        [sys.executable, "-m", "operations.cli", "build", "--out", str(out), *changes],
        cwd=tree,  # where -m looks first
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    (fresh,) = (event["fresh"] for event in events if event["event"] == "build")
    return STAGES - set(fresh)


def edit(path: Path, more: str) -> None:
    path.write_text(path.read_text() + more)


def test_an_edit_runs_only_the_stages_that_use_it(tree: Path, tmp_path: Path) -> None:
    """Code in the scorer that changes no weight trains and measures again, and exports nothing."""
    shop = make_shop(tmp_path / "shop", np.random.default_rng(1), baskets=100)
    settings, out = CHEAP | shop.overrides(), tmp_path / "out"
    assert ran(tree, out, settings) == STAGES
    edit(tree / "export_scripts/snapshots/retrieval/tower.py", "# A comment.\n")
    edit(tree / "operations/releases/promote.py", "ADDED = 1\n")
    assert ran(tree, out, settings) == set()
    edit(tree / "export_scripts/scorer/fitting.py", "ADDED = 1\n")
    assert ran(tree, out, settings) == {"train", "evaluate", "export"}
    edit(tree / "export_scripts/quality/metrics.py", "ADDED = 1\n")
    assert ran(tree, out, settings) == {"evaluate"}
    edit(tree / "ensemble/candidate_sampler/query.py", "# A comment.\n")
    assert ran(tree, out, settings) == {"export", "publish"}
    assert verify_release(open_repository(Outputs(out).repository)).release == 2
