"""Triton's lines as log events: JSON beside our own where programs read, as they are where people do."""

import re
import sys
from collections.abc import Callable

import structlog

log = structlog.get_logger()

# I1123 05:29:48.303104 19555 model_lifecycle.cc:839] "successfully loaded 'recommender'"
_LINE = re.compile(r'([IWEF])\d{4} [\d:.]+ \d+ (\S+)\](?: "?(.*?)"?)?')
_RELEASE = re.compile(r"\b(?:candidate_sampler|ncf_scorer|recommender\w*)(?::|' version )(\d+)")
_LEVELS = {"I": "info", "W": "warning", "E": "error", "F": "critical"}
_TABLES = ("+-", "| ")  # what was loaded, drawn at the start: our own events tell


def logged() -> Callable[[str], object]:
    """What to do with a line that the server or a model prints."""
    return _print if sys.stderr.isatty() else log_line


def log_line(line: str) -> None:
    """One event, with its level, its place in Triton's source, and the release that it is about."""
    if not line.strip() or line.startswith(_TABLES):
        return
    if not (found := _LINE.fullmatch(line)):
        log.info("triton", says=line)
        return
    level, source, says = found.groups()
    if not says:  # above a table
        return
    release = {"release": int(about[1])} if (about := _RELEASE.search(says)) else {}
    getattr(log, _LEVELS[level])("triton", says=says, source=source, **release)


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
