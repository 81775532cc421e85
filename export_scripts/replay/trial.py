"""Holds a weekly release against the one before, healthy and with planted faults, and keeps what both answer.

The kept ranks are those of the gate's own comparison, and those on each one's own test period, which the gate
looked at before 2026-12. Both are asked here with the same code as in evaluate.
"""

import io
import json
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ensemble.reference import Reference
from export_scripts.engines.local import ThisProcess
from export_scripts.quality.against.asked_by_id import IdQuestions, ask
from export_scripts.quality.against.comparison import beside, hide_new_items, owners_of
from export_scripts.quality.against.receipts_compared import baskets_by_day, customers_of
from export_scripts.quality.against.released import Released
from export_scripts.quality.metrics import MISSED, Ranks
from export_scripts.quality.questions import Questions
from export_scripts.quality.rankers import ServedRanker
from export_scripts.quality.served import served_ranker
from export_scripts.receipts.shop import Shop
from export_scripts.replay.faults import FAULTS, HEALTHY, SHUFFLED_MODEL
from export_scripts.replay.releases import Trained
from export_scripts.snapshots.partials import PartialCounts
from export_scripts.snapshots.snapshot import recommendable, sampler_of, snapshot
from export_scripts.snapshots.splits import Split, hide_items, split_by_time
from operations.records.atomic import write_file
from operations.records.comparison import ReceiptsCompared
from operations.records.contract import read_contract
from operations.records.manifest import DataRecord

DONE: Final = "done.json"


class Pair(NamedTuple):
    """One case of a trial: places (n,) of the hidden items, owners (n,); (m,) on the own test period."""

    active: Ranks
    candidate: Ranks
    owners: NDArray[np.int64]
    own: Ranks
    own_owners: NDArray[np.int64]


def try_candidate(active: Trained, candidate: Trained, folder: Path) -> None:
    """Keep a pair of answers for each case in ``folder``, and the facts about its receipts.

    Cases that are there already stay as they are.
    """
    shop, settings = candidate.shop, candidate.settings
    released = Released(describe(active.shop), active.released_before(active.shop.n_baskets))
    start, split = shop.first_basket_at(released.now), split_by_time(shop, settings.splits)
    ours, ranker = candidate.released_before(start), _own_ranker(candidate, split)
    for name in (HEALTHY, SHUFFLED_MODEL, *FAULTS):
        rng = np.random.default_rng([start, len(name)])
        broken = FAULTS[name](shop, start, rng) if name in FAULTS else shop
        if broken is None or has_case(folder, name):
            continue
        is_named = name != SHUFFLED_MODEL
        asked = ours if is_named else _mislabelled(candidate, ours, rng)
        own = ranker if is_named else None
        receipts = beside(released, broken)
        _keep(folder, name, _pair(released, asked, own, broken, candidate, split), receipts)
    write_file(folder / DONE, b"{}\n")


def was_tried(folder: Path) -> bool:
    """Are all cases there?"""
    return (folder / DONE).exists()


def describe(shop: Shop) -> DataRecord:
    """What a release's manifest would say about its receipts."""
    counts = baskets_by_day(shop)
    first = np.datetime_as_string(np.datetime64(int(shop.times[0]), "s"), timezone="UTC")
    return DataRecord(
        first=str(first),
        users=customers_of(shop),
        baskets_by_day=None if counts is None else " ".join(map(str, counts.tolist())),
    )


def has_case(folder: Path, name: str) -> bool:
    """Could the fault be planted?"""
    return (folder / f"{_file(name)}.npz").exists()


def read_case(folder: Path, name: str) -> tuple[Pair, ReceiptsCompared]:
    """The pair and the receipts of one case."""
    with np.load(folder / f"{_file(name)}.npz") as arrays:
        pair = Pair(**arrays)
    return pair, ReceiptsCompared.read(folder / f"{_file(name)}.json")


def _pair(
    active: Released,
    candidate: Reference,
    ranker: ServedRanker | None,
    shop: Shop,
    trained: Trained,
    split: Split,
) -> Pair:
    """Ask both about the newest receipts of ``shop``, and the candidate about its own test period.

    Without a ``ranker`` it misses all of the latter, as one does that names wrong items.
    """
    settings = trained.settings
    start = shop.first_basket_at(active.now)
    hidden = hide_new_items(shop, start, candidate, active, settings)
    questions = IdQuestions.of(shop, hidden)
    test = shop.first_basket_at(int(trained.shop.times[split.test]))
    rng = np.random.default_rng(settings.train.seed)
    warm, most = recommendable(candidate.sampler.arrays), settings.splits.hidden_per_basket
    own = hide_items(shop, test, shop.n_baskets, warm, most, rng).sample(settings.evaluate.queries, rng)
    own_ranks = np.full(len(own), float(MISSED))
    if ranker:
        asked = Questions(shop, own, ranker.reference.sampler, [ranker])
        own_ranks = asked.rank(ThisProcess(), True, "own test period")[ServedRanker.NAME].ranks
    return Pair(
        active=ask(active.reference, questions),
        candidate=ask(candidate, questions),
        owners=owners_of(shop, hidden),
        own=own_ranks,
        own_owners=owners_of(shop, own),
    )


def _own_ranker(trained: Trained, split: Split) -> ServedRanker:
    """The ranker that evaluate measures on the test period."""
    model, prior, tower, counts = trained.candidate
    counted = PartialCounts(trained.shop, trained.settings.sampler, counts)
    arrays = snapshot(trained.shop, split.test, trained.settings, prior, partials=counted, tower=tower)
    contract = read_contract()
    sampler = sampler_of(arrays, trained.settings, contract)
    return served_ranker(model, trained.shop.catalog["item_id"].tolist(), sampler, contract)


def _mislabelled(trained: Trained, reference: Reference, rng: np.random.Generator) -> Reference:
    """The same model, whose graph names another item for each row."""
    contract = read_contract()
    ids = _shuffled(trained.shop.catalog["item_id"].tolist(), rng)
    model = trained.candidate.model
    return served_ranker(model, ids, reference.sampler, contract, contract.answers).reference


def _shuffled(ids: list[str], rng: np.random.Generator) -> list[str]:
    return [ids[0], *rng.permutation(np.array(ids[1:], object)).tolist()]


def _keep(folder: Path, name: str, pair: Pair, receipts: ReceiptsCompared) -> None:
    """Write the receipts, then the pair, which makes the case complete."""
    content = io.BytesIO()
    np.savez_compressed(content, **pair._asdict())
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / f"{_file(name)}.json", json.dumps(receipts.json_object()).encode())
    write_file(folder / f"{_file(name)}.npz", content.getvalue())


def _file(name: str) -> str:
    return name.replace(" ", "-")
