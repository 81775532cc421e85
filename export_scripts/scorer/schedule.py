"""How long the scorer of a shop is trained: the fewer questions it has, the more often it sees them."""

from typing import Final, NamedTuple

import structlog

from export_scripts.scorer.training_set import TrainingSet
from export_scripts.settings import TrainSettings

log = structlog.get_logger()

LEAST_BATCHES: Final = 20
LEAST_BATCH: Final = 32  # queries; a small shop gets smaller batches before it gets too few steps


class Schedule(NamedTuple):
    """The length of a training. Its learning rate falls linearly over the steps of all epochs."""

    batches: int  # steps of an epoch
    epochs: int  # at most; validation may stop earlier

    @property
    def steps(self) -> int:
        """Steps of all epochs."""
        return self.batches * self.epochs


def schedule_for(training: TrainingSet, settings: TrainSettings) -> Schedule:
    """Return the schedule of a training with the set ``training``, and log it.

    The epochs together ask ``train.questions_seen`` questions. There are at most ``train.epochs``.
    """
    queries = len(training)
    batches = max(1, queries // settings.batch_size, min(LEAST_BATCHES, queries // LEAST_BATCH))
    wanted = round(settings.questions_seen / max(training.n_queries, 1))
    schedule = Schedule(batches, max(1, min(settings.epochs, wanted)))
    log.info(
        "schedule",
        questions=training.n_queries,
        steps_per_epoch=batches,
        epochs=schedule.epochs,
        patience=settings.patience,
    )
    return schedule
