"""The durations of a stage and of its steps."""

import pytest
from structlog.testing import capture_logs

from export_scripts.durations import stage, step


@step("counts")
def count() -> int:
    return 3


def test_a_stage_logs_itself_and_the_sum_of_each_step() -> None:
    with capture_logs() as logs, stage("train"):
        assert count() + count() == 6
        with step("scorer"):
            sum(range(300_000))
    (event,) = logs
    assert (event["event"], event["stage"], list(event["steps"])) == (
        "durations",
        "train",
        ["counts", "scorer"],
    )
    assert 0 < event["steps"]["scorer"]["wall_s"] <= event["wall_s"]
    assert 0 < event["steps"]["scorer"]["cpu_s"] <= event["cpu_s"]


def test_a_step_outside_a_stage_logs_nothing() -> None:
    with capture_logs() as logs:
        assert count() == 3
    assert logs == []


def test_a_stage_that_fails_logs_no_durations() -> None:
    @stage("train")
    def fail() -> None:
        count()
        raise ValueError

    with capture_logs() as logs, pytest.raises(ValueError, match=r"^$"):
        fail()
    assert logs == []
    with capture_logs() as logs, stage("export"):
        pass
    assert logs[0]["steps"] == {}
