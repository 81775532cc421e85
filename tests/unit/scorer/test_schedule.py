"""The number of epochs follows the number of training questions."""

from dataclasses import replace

import numpy as np
import pytest
import structlog

from export_scripts.scorer.schedule import Schedule, schedule_for
from export_scripts.scorer.training_set import TrainingSet
from export_scripts.settings import load_settings
from tests.building.world import no_queries

SETTINGS = load_settings().train.model_copy(
    update={"epochs": 12, "questions_seen": 800_000, "batch_size": 256, "patience": 5}
)


def training_set(found: int, asked: int) -> TrainingSet:
    """So many questions whose hidden item is a candidate, of so many that are asked."""
    return replace(no_queries(), target=np.zeros(found, np.int64), n_queries=asked)


@pytest.mark.parametrize(
    ("found", "asked", "expected"),
    [
        (70_000, 100_000, Schedule(273, 8)),  # the demo: 8 epochs, whatever share the candidates hold
        (70_000, 99_999, Schedule(273, 8)),
        (60_000, 80_000, Schedule(234, 10)),
        (9_000, 10_000, Schedule(35, 12)),  # 80 epochs would be needed
        (2_000, 2_000, Schedule(20, 12)),  # smaller batches, so that an epoch has 20 steps
        (64, 64, Schedule(2, 12)),
        (1, 1, Schedule(1, 12)),
        (0, 0, Schedule(1, 12)),
    ],
)
def test_a_smaller_shop_sees_its_questions_more_often(found: int, asked: int, expected: Schedule) -> None:
    assert schedule_for(training_set(found, asked), SETTINGS) == expected


def test_a_training_has_at_least_one_epoch() -> None:
    few = SETTINGS.model_copy(update={"questions_seen": 1})
    assert schedule_for(training_set(70_000, 100_000), few).epochs == 1


def test_the_epochs_of_the_settings_are_the_limit() -> None:
    assert schedule_for(training_set(2_000, 2_000), SETTINGS.model_copy(update={"epochs": 3})).epochs == 3


def test_the_log_says_how_long_a_training_may_last() -> None:
    with structlog.testing.capture_logs() as events:
        assert schedule_for(training_set(9_000, 10_000), SETTINGS).steps == 420
    assert {key: events[0][key] for key in ("questions", "steps_per_epoch", "epochs", "patience")} == {
        "questions": 10_000,
        "steps_per_epoch": 35,
        "epochs": 12,
        "patience": 5,
    }
