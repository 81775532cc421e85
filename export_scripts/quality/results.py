"""The content of metrics.json: what evaluate measures, the report shows and a release's manifest records."""

from typing import NotRequired, TypedDict, final

from pydantic import JsonValue


class Summary(TypedDict):
    """Metrics of a group of ``n`` queries, None without any; ``interval`` holds the 95 % bounds by name."""

    hr_at_10: float | None
    ndcg_at_10: float | None
    mrr: float | None
    interval: dict[str, list[float]] | None
    n: int


class Variety(TypedDict):
    """The variety of a ranker's lists; see ``metrics.variety``."""

    coverage: float | None
    effective_items: float | None
    gini: float | None
    novelty: float | None


class Lists(Variety):
    """Variety, and the share of places in known users' lists that hold an item they bought before."""

    repeats: float | None


class RankerResult(TypedDict):
    """The metrics of one ranker by kind of query; repeat and explore are queries with a known user."""

    known: Summary
    unknown: Summary
    repeat: Summary
    explore: Summary
    lists: Lists


class MeasuredRival(RankerResult):
    """A rival's metrics, and the settings that validation chose for it."""

    note: str


@final
class MissingRival(TypedDict):
    """A rival that was not measured, and what to install for it."""

    note: str


class Shares(TypedDict):
    """The share of hidden items that are among the candidates: of all queries, of repeats, of explore."""

    recall: float | None
    repeat: float | None
    explore: float | None


class SourceShares(Shares):
    """The share of hidden items that one source proposes, alone or not, and the share by list length."""

    alone: Shares
    at: dict[str, Shares]


class CandidateShares(Shares):
    """The recall of the sampler's candidates, by list length and by source."""

    at: dict[str, Shares]
    by_source: dict[str, SourceShares]


class CatalogResult(TypedDict):
    """Metrics over the whole catalog and over the candidates, and the share that the sampler loses."""

    hr_at_10: float | None
    sampled_hr_at_10: float | None
    loss: float | None
    ndcg_at_10: float | None
    sampled_ndcg_at_10: float | None
    ndcg_loss: NotRequired[float | None]  # missing in metrics of older versions


class FullCatalog(TypedDict):
    """The scorer over the whole catalog, on a sample of ``queries`` in number."""

    queries: int
    known: CatalogResult
    unknown: CatalogResult


class ColdSummary(Summary):
    """Metrics of queries for cold items, and the share of these items among the candidates."""

    recall: float | None


class ColdResult(TypedDict):
    """Cold items are in ``fewer_than`` baskets; ``sold`` and ``never_sold`` count sales before the period."""

    fewer_than: int
    all: ColdSummary
    repeat: ColdSummary
    explore: ColdSummary
    sold: ColdSummary
    never_sold: ColdSummary


class CalibrationBin(TypedDict):
    """Mean predicted probability and observed share of hits of ``n`` places in the lists."""

    predicted: float
    observed: float
    n: int


class Calibrated(TypedDict):
    """Expected and observed HR@10, in all and by predicted probability."""

    expected: float | None
    observed: float | None
    bins: list[CalibrationBin]


class CalibratedCandidates(Calibrated):
    """The same over the ``n`` queries whose hidden item is a candidate."""

    n: int


class Calibration(Calibrated):
    """Over all queries, and given that the hidden item is a candidate, as the scorer has learnt it."""

    given_candidate: NotRequired[CalibratedCandidates]  # missing in metrics of older versions


class Difference(TypedDict):
    """The mean of the differences query by query, with its 95 % interval."""

    difference: float
    interval: list[float]


class NewOnly(TypedDict):
    """A ranker's metrics where all that the customer bought before is taken out of lists and queries.

    The same queries are asked with the customer and without; ``customer_adds`` is the paired difference.
    """

    known: Summary
    unknown: Summary
    customer_adds: dict[str, Difference]  # by metric


class BestOther(Difference):
    """The ranker that is best beside cesta in one metric, its value, and cesta's paired difference to it."""

    ranker: str
    value: float


class FrontierPoint(TypedDict):
    """HR@10 and NDCG@10 of known users with one value of ``ranking.explore``, and HR@10 by kind of query."""

    value: float
    hr_at_10: float
    ndcg_at_10: float
    repeat: float
    explore: float


class Frontier(TypedDict):
    """The value of ``ranking.explore`` in use, the one that validation chose, and what each value gives."""

    explore: float
    chosen: float
    points: list[FrontierPoint]  # none without repeats or without new items


class OneStore(TypedDict):
    """The ``n`` queries of one store, asked with the store and without."""

    n: int
    hr_at_10: float
    ndcg_at_10: float
    ndcg_without_store: float
    on_sale: float
    on_sale_without_store: float


class StoresResult(TypedDict):
    """The queries that name a store, asked with it and without.

    ``on_sale`` are shares of the first ten. ``hidden_in_lists`` is the share of hidden items in the list of
    their store: a closed store (``stores.assortment = "only"``) could not find the others.
    """

    with_store: Summary
    without_store: Summary
    store_adds: dict[str, Difference]  # hr_at_10, ndcg_at_10, on_sale
    on_sale: float
    on_sale_without_store: float
    hidden_in_lists: float
    stores: int  # with queries
    by_store: dict[str, OneStore]  # by store id; "(others)" last


class InStores(TypedDict):
    """The part of metrics.json about stores; empty if no query names one."""

    stores: NotRequired[StoresResult]


class ProtocolRecord(TypedDict):
    """The size of the measurement: queries, start of the test period, ranked items, candidates."""

    queries: int
    test_from: int | None
    ranked_items: int
    candidates: int
    known_users: NotRequired[int]  # queries that name a user; missing in metrics of older versions
    note: str


class Metrics(RankerResult, InStores):
    """metrics.json: cesta's own result, what explains it, and the rankers it is compared with."""

    checkpoint: str  # SHA-256
    by_basket_size: dict[str, Summary]
    by_support: dict[str, Summary]
    cold: ColdResult
    candidates: CandidateShares
    full_catalog: FullCatalog
    curve: list[dict[str, float]]  # of training, by epoch
    calibration: Calibration
    baselines: dict[str, RankerResult]
    rivals: dict[str, MeasuredRival | MissingRival]
    new_only: NotRequired[dict[str, NewOnly]]  # by ranker; this and the next: missing in older metrics
    best_other: NotRequired[dict[str, dict[str, BestOther]]]  # by kind of query and metric
    frontier: NotRequired[Frontier]  # missing in metrics of older versions
    protocol: ProtocolRecord
    against: dict[str, JsonValue] | None  # a Comparison with the active release, if there was one
