"""``retraining.json``: how the loop that retrains a repository is doing, for the servers on it.

``cesta retrain`` writes it at the beginning of each step and at its end.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, ClassVar, Final

from pydantic import AfterValidator, Field

from operations.records.json_record import JsonRecord
from operations.releases.stores.store import Repository

NAME: Final = "retraining.json"


def _checked(text: str) -> str:
    try:
        moment(text).astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{text} is not in the years that are counted") from None
    return text


Moment = Annotated[str, AfterValidator(_checked)]  # in ISO 8601
YEAR_S: Final = 366 * 86_400.0


class EndedRun(JsonRecord, frozen=True):
    """A run of the loop that has ended."""

    started_at: Moment
    ended_at: Moment
    outcome: str
    exit_code: int
    sentence: str
    release: int | None = None


class Retraining(JsonRecord, frozen=True):
    """The loop's state: its schedule, the run that began last, the one that ended last."""

    WAY_OUT: ClassVar = 'the next "cesta retrain" writes it anew'

    every_s: float = Field(gt=0, le=YEAR_S)
    started_at: Moment
    step: str | None = None  # None: the run has ended
    last: EndedRun | None = None

    @property
    def next_at(self) -> datetime:
        """When the next run is due."""
        return moment(self.started_at) + timedelta(seconds=self.every_s)


def moment(text: str) -> datetime:
    """Read a moment in ISO 8601; without a zone it is UTC."""
    read = datetime.fromisoformat(text)
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def read_retraining(repository: Repository) -> Retraining | None:
    """The state of the repository's loop; None if it has none. Raises CestaError if the file is damaged."""
    place = repository / NAME
    return Retraining.read(place) if place.exists() else None


def write_retraining(repository: Repository, state: Retraining) -> None:
    """Replace the state of the repository's loop."""
    repository.write(NAME, state.json_text().encode())
