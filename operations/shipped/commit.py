"""The commit of the code that runs."""

import os
import subprocess
from typing import Final

from operations.shipped import COMMIT, ROOT

UNKNOWN: Final = "unknown"


def find_commit() -> str | None:
    """Return what a wheel records, else `$CESTA_COMMIT` (an image has it), else the checkout's commit.

    It ends in "+changes" if files of the checkout differ from it. None where nothing tells it.
    """
    recorded = COMMIT.read_text(encoding="utf-8") if COMMIT.is_file() else os.environ.get("CESTA_COMMIT", "")
    if recorded:
        return None if recorded.strip() == UNKNOWN else recorded.strip()
    try:
        commit = _run_git("rev-parse", "HEAD")
        return commit + ("+changes" if _run_git("--no-optional-locks", "status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        return None


def _run_git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
