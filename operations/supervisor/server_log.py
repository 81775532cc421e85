"""Triton's log lines: JSON events beside ours for programs, unchanged lines for a terminal."""

import re
import sys
from collections.abc import Callable

import structlog

from operations.log_stream import LogStream
from operations.records.contract import MODELS, MORE_ENSEMBLES, MORE_PARTS

log = structlog.get_logger()

# I1123 05:29:48.303104 19555 model_lifecycle.cc:839] "successfully loaded 'recommender'"
_LINE = re.compile(r'([IWEF])\d{4} [\d:.]+ \d+ (\S+)\](?: "?(.*?)"?)?')
_MODELS = "|".join((*MODELS, *MORE_PARTS, *MORE_ENSEMBLES))
_RELEASE = re.compile(rf"\b(?:{_MODELS})\w*(?::|' version )(\d+)")
_LEVELS = {"I": "info", "W": "warning", "E": "error", "F": "critical"}
_TABLES = ("+-", "| ")  # lists of loaded models at the start; our own events say the same


def log_handler() -> Callable[[str], object]:
    """Return the function that takes each line of the server and its models."""
    return _print if sys.stderr.isatty() else log_line


def log_line(line: str) -> None:
    """Log one event with its level, its place in Triton's source and the release that it names."""
    if not line.strip() or line.startswith(_TABLES):
        return
    if not (parts := _LINE.fullmatch(line)):
        log.info("triton", says=line)
        return
    level, source, says = parts.groups()
    if not says:  # above a table
        return
    release = {"release": int(number[1])} if (number := _RELEASE.search(says)) else {}
    getattr(log, _LEVELS[level])("triton", says=says, source=source, **release)


def _print(line: str) -> None:
    print(line, file=LogStream(), flush=True)
