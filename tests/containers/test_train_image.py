"""The image for retraining builds a small shop's release within the restrictions of the others."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from operations.releases.repository import active_release
from operations.releases.stores.store import open_repository
from tests.building.cheap_builds import CHEAP
from tests.building.shops import make_shop
from tests.containers.engine import Engine
from tests.containers.images import build_image
from tests.containers.serving import OWNER, give_away

pytestmark = [pytest.mark.timeout(1800)]  # building the image takes most of it

RESTRICTED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", f"--user={OWNER}:{OWNER}")


@pytest.fixture(scope="session")
def train_image(engine: Engine) -> str:
    """Where PyTorch's index cannot be reached, its wheel is taken from where this machine's pip has it."""
    if folder := folder_with_torch():
        return build_image(engine, "train", (f"{folder}:{folder}:ro",), TORCH_INDEX=folder)
    return build_image(engine, "train")


def folder_with_torch() -> str | None:
    """Return the folder among pip's --find-links that has the CPU build."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True)
    folders = re.findall(r"find-links='([^']+)'", listed.stdout)
    return next((folder for folder in folders if any(Path(folder).glob("torch-*+cpu-*.whl"))), None)


def test_a_shop_is_built_as_an_ordinary_user(engine: Engine, train_image: str, tmp_path: Path) -> None:
    """The root is read-only, the release is in the volume, and its publisher's key where it was mounted."""
    make_shop(tmp_path / "tables", np.random.default_rng(1))
    out = tmp_path / "artifacts"
    out.mkdir()
    give_away(out)
    changes = [word for name, value in CHEAP.items() for word in ("--set", f"{name}={value}")]
    engine.run(
        *("run", "--rm", *RESTRICTED, "--tmpfs=/tmp:size=256m,mode=1777", "--shm-size=1g"),
        *(f"--volume={tmp_path / 'tables'}:/tables:ro", f"--volume={out}:/artifacts"),
        *("--env=XDG_STATE_HOME=/artifacts/state", train_image),
        *("build", "--out=/artifacts", "--transactions=/tables/transactions.csv"),
        *("--products=/tables/products.csv", "--offline", "--force", *changes),
        timeout_s=600,
    )
    assert active_release(open_repository(str(out / "repository"))) == 1
