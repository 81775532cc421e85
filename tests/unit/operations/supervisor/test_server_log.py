"""Triton's log lines become events."""

import pytest
from structlog.testing import capture_logs

from operations.supervisor.server_log import log_line

START = "1123 05:29:48.303104 19555 model_lifecycle.cc:839] "


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (
            f'I{START}"loading: candidate_sampler:12"',
            {"says": "loading: candidate_sampler:12", "release": 12, "log_level": "info"},
        ),
        (
            f"W{START}\"successfully unloaded 'recommender' version 2\"",
            {"says": "successfully unloaded 'recommender' version 2", "release": 2, "log_level": "warning"},
        ),
        (f'E{START}"no CUDA"', {"says": "no CUDA", "log_level": "error"}),
    ],
)
def test_a_line_keeps_its_level_place_and_release(line: str, event: dict[str, object]) -> None:
    with capture_logs() as events:
        log_line(line)
    assert events == [{"event": "triton", "source": "model_lifecycle.cc:839", **event}]


def test_what_a_model_prints_is_kept_and_tables_are_not() -> None:
    """A model's traceback has no level. The tables of the start repeat other events."""
    with capture_logs() as events:
        for line in ("RuntimeError: no such table", f"I{START.strip()}", "+---+", "| a |", ""):
            log_line(line)
    assert events == [{"event": "triton", "says": "RuntimeError: no such table", "log_level": "info"}]
