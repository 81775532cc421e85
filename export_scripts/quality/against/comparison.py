"""Ask a candidate and the active release the same newest questions, each as it would have answered then.

The active release is asked as it is served: its counts, histories and clock end with its last receipt. So
only receipts after that are asked about. The candidate is asked as if its model had been released at the
moment where these begin: the same weights, with counts, histories and clock of that moment. Its own released
arrays contain the answers, and the arrays of its test period are older than those of the active release.

The weights of the candidate were chosen on receipts before its test period. If the active release is older
than that, the questions begin with the test period.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ensemble.reference import Reference
from export_scripts.durations import step
from export_scripts.engines.interface import Engine
from export_scripts.quality.against.asked_by_id import IdQuestions, ask
from export_scripts.quality.against.receipts_compared import compare_receipts
from export_scripts.quality.against.released import Released, open_release
from export_scripts.quality.groups import LEAST_OWNERS
from export_scripts.quality.metrics import NAMES, Ranks, gains, interval
from export_scripts.quality.served import served_ranker
from export_scripts.receipts.shop import DAY_S, Shop
from export_scripts.scorer.ncf import NCF
from export_scripts.settings import Settings
from export_scripts.snapshots.partials import PartialCounts
from export_scripts.snapshots.retrieval.tower import TrainedTower
from export_scripts.snapshots.snapshot import recommendable, sampler_of, snapshot
from export_scripts.snapshots.splits import HiddenItems, Split, cut_off, hide_items
from operations.errors import CestaError
from operations.records.comparison import Comparison, ReceiptsCompared
from operations.records.contract import Contract
from operations.releases.repository import active_release, read_release
from operations.releases.stores.store import Repository

DIGITS: Final = 4


class Candidate(NamedTuple):
    """A trained model, and where partial counts are kept."""

    model: NCF
    prior: NDArray[np.float32]
    tower: TrainedTower
    counts: Path


@step("against the active release")
def compare(
    repository: Repository,
    shop: Shop,
    split: Split,
    candidate: Candidate,
    settings: Settings,
    contract: Contract,
    engine: Engine,
) -> Comparison | None:
    """Compare a candidate with the active release of a repository; None if there is no active release.

    A release that cannot be asked does not keep another one from being measured: ``problem`` says why.
    """
    number = active_release(repository)
    if number is None:
        return None
    try:
        described = read_release(repository, number)
    except CestaError as error:
        return Comparison(release=number, digest="", problem=str(error))
    who = {"release": number, "digest": described.digest}
    try:
        active = open_release(repository, number)
    except CestaError as error:
        found: dict[str, object] = {"problem": str(error)}
    else:
        ours = partial(as_released, candidate=candidate, settings=settings, contract=contract, engine=engine)
        found = compare_with(active, shop, split, ours, settings)
    return Comparison.model_validate(who | found)


def compare_with(
    active: Released,
    shop: Shop,
    split: Split,
    release_at: Callable[[Shop, int], Reference],
    settings: Settings,
) -> dict[str, object]:
    """The fields of a Comparison except those that name the active release.

    ``release_at`` returns the candidate as it would have been released just before a basket.
    """
    if shop.day != DAY_S:
        return {"problem": "receipts without times do not tell which of them are new"}
    found: dict[str, object] = {"receipts": beside(active, shop)}
    start = max(shop.first_basket_at(active.now), split.test)
    if start >= shop.n_baskets:
        return found | {"problem": "no receipt is newer than those of the active release"}
    ours = release_at(shop, start)
    hidden = hide_new_items(shop, start, ours, active, settings)
    questions = IdQuestions.of(shop, hidden)
    ranks = ask(active.reference, questions), ask(ours, questions)
    since = datetime.fromtimestamp(int(shop.times[start]), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return found | {"since": since} | paired(*ranks, owners_of(shop, hidden), settings)


def beside(active: Released, shop: Shop) -> ReceiptsCompared:
    """The receipts of ``shop`` beside those of the active release."""
    items, customers = active.sold(shop.catalog["item_id"].tolist()), active.knows(shop.user_ids)
    return compare_receipts(shop, active.data, active.now, items, customers)


def as_released(
    shop: Shop, end: int, candidate: Candidate, settings: Settings, contract: Contract, engine: Engine
) -> Reference:
    """The candidate as export would have released it just before basket ``end``."""
    before = cut_off(shop, end)
    counted = PartialCounts(before, settings.sampler, candidate.counts, engine)
    arrays = snapshot(before, end, settings, candidate.prior, partials=counted, tower=candidate.tower)
    sampler = sampler_of(arrays, settings, contract)
    ids = shop.catalog["item_id"].tolist()
    return served_ranker(candidate.model, ids, sampler, contract, contract.answers).reference


def hide_new_items(
    shop: Shop, start: int, ours: Reference, active: Released, settings: Settings
) -> HiddenItems:
    """Hide items of the baskets from number ``start`` on that either of the two recommends."""
    hideable = active.recommends(shop.catalog["item_id"].tolist()) | recommendable(ours.sampler.arrays)
    rng = np.random.default_rng(settings.train.seed)
    hidden = hide_items(shop, start, shop.n_baskets, hideable, settings.splits.hidden_per_basket, rng)
    return hidden.sample(settings.evaluate.queries, rng)


def owners_of(shop: Shop, hidden: HiddenItems) -> NDArray[np.int64]:
    """(n,) what the bootstrap draws: users, and baskets of unknown ones or if there are few users."""
    users = shop.users[hidden.baskets].astype(np.int64)
    owners = np.where(users > 0, users, shop.n_users + hidden.baskets)
    return owners if len(np.unique(owners)) >= LEAST_OWNERS else hidden.baskets


def paired(
    active: Ranks, candidate: Ranks, owners: NDArray[np.int64], settings: Settings
) -> dict[str, object]:
    """Means of both (n,), their difference and its 95 % interval, by metric of the first ten places."""
    if not len(active):
        return {"problem": "no new basket holds two items that can be ranked"}
    theirs, ours = gains(active)[:, :2], gains(candidate)[:, :2]
    rng = np.random.default_rng(settings.train.seed)
    bounds = interval(ours - theirs, owners, settings.evaluate.bootstrap, rng)

    def by_name(values: NDArray[np.float64]) -> dict[str, object]:
        return dict(zip(NAMES, values.round(DIGITS).tolist(), strict=False))

    return {
        "n": len(active),
        "active": by_name(theirs.mean(0)),
        "candidate": by_name(ours.mean(0)),
        "difference": by_name((ours - theirs).mean(0)),
        "interval": by_name(bounds),
    }
