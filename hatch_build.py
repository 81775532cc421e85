"""What hatchling adds to the packages: folders beside them, for a wheel; the commit, for wheel and sdist."""

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDERS: Final = ("deploy", "model_repository")
PLACE: Final = "operations/shipped"  # its module finds them
COMMIT: Final = f"{PLACE}/commit"


class ShippedFiles(BuildHookInterface):  # type: ignore[type-arg]
    """An editable installation needs none of these files: it runs in the checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files to those of this archive: source → place."""
        if version == "editable":
            return
        files: dict[str, str] = build_data["force_include"]
        if self.target_name == "wheel":
            files |= {str(Path(self.root, folder)): f"{PLACE}/{folder}" for folder in FOLDERS}
        recorded = Path(self.root, COMMIT)  # an sdist has it
        if not recorded.exists():
            self._scratch = tempfile.TemporaryDirectory()  # goes with this object
            recorded = Path(self._scratch.name, "commit")
            recorded.write_text(f"{find_commit(self.root)}\n")
        files[str(recorded)] = COMMIT


def find_commit(root: str) -> str:
    """Return $CESTA_COMMIT, else the checkout's commit, with "+changes" if files differ; else "unknown"."""

    def run_git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    if named := os.environ.get("CESTA_COMMIT"):
        return named
    try:
        return run_git("rev-parse", "HEAD") + ("+changes" if run_git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
