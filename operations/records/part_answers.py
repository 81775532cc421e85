"""Questions to one further part of a release, with the answers that it must give."""

from collections.abc import Mapping

from operations.records.golden_answers import Answer
from operations.records.json_record import JsonRecord


class PartAnswer(JsonRecord, frozen=True):
    """One question, the values of each input tensor by its name, and its answer."""

    inputs: Mapping[str, tuple[str | int | float, ...]]
    answer: Answer
