"""The receipts of a release in figures, for comparisons with later ones: the key ``drift`` of a manifest."""

from collections.abc import Mapping

from operations.records.json_record import JsonRecord

Counts = Mapping[str, float]  # by label
Thresholds = Mapping[str, float]  # by feature; distances, see operations/drift/divergence.py


class HistogramRecord(JsonRecord, frozen=True):
    """Counts by label, and the number of independent observations that they are made of.

    The items of one basket are not independent: they count as one observation.
    """

    counts: Counts
    observations: float


class DriftRecord(JsonRecord, frozen=True):
    """The receipts from ``first`` to ``last``, asked as whole baskets, by feature."""

    first: str
    last: str
    features: Mapping[str, HistogramRecord]
    thresholds: Mapping[str, Thresholds]  # by window: hour, day, week
    timezone: str = ""  # of the receipts' clock: a name of the tz database; "" is UTC
    score_edges: tuple[float, ...] = ()  # between the tenths of the first places' scores
    calibrated: int = 0  # windows of earlier receipts that the thresholds of a week are made of
