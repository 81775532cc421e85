"""How often the gate refuses equal releases and planted faults, beside the gate of before 2026-12.

Each kept pair of answers is judged as it is and with its customers drawn again, by the gate's own code.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from export_scripts.quality.against.comparison import paired
from export_scripts.quality.metrics import NAMES, Ranks, gains, interval
from export_scripts.replay.faults import FAULTS, HEALTHY, SHUFFLED_MODEL
from export_scripts.replay.trial import Pair, has_case, read_case
from export_scripts.settings import Settings
from operations.records.comparison import ReceiptsCompared
from operations.records.manifest import ReleaseManifest
from operations.releases.gate import objections

CASES: Final = (HEALTHY, SHUFFLED_MODEL, *FAULTS)
ACTIVE, CANDIDATE = 1, 2
ACTIVE_DIGEST: Final = "active"


class Rate(TypedDict):
    """Shares of ``judged`` pairs that are refused: by the gate, and by that of before."""

    refused: float
    refused_before: float
    judged: int


class Measured(NamedTuple):
    """HR@10 and NDCG@10 on a release's own test period, with their intervals, by name."""

    values: dict[str, float]
    bounds: dict[str, list[float]]

    def as_metrics(self) -> dict[str, object]:
        """The part of metrics.json that the gate reads."""
        return {"known": {**self.values, "interval": self.bounds, "n": 1}}


def judge(trials: Sequence[Path], settings: Settings, redrawn: int) -> dict[str, Rate]:
    """The rates of all cases over the ``trials``, folders in order of time.

    Each pair is judged once as it is, and ``redrawn`` times with other draws of its customers.
    """
    rates: dict[str, Rate] = {}
    for case in CASES:
        verdicts = [
            verdict
            for before, folder in pairwise(trials)
            if has_case(folder, case)
            for verdict in _judge_pair(before, folder, case, settings, redrawn)
        ]
        now, then = (np.mean([verdict[i] for verdict in verdicts]) if verdicts else 0.0 for i in (0, 1))
        rates[case] = {"refused": float(now), "refused_before": float(then), "judged": len(verdicts)}
    return rates


def _judge_pair(
    before: Path, folder: Path, case: str, settings: Settings, redrawn: int
) -> Iterator[tuple[bool, bool]]:
    """Is a pair refused, now and by the gate of before? The active release was a candidate ``before``."""
    healthy, _ = read_case(before, HEALTHY)
    own = measure(healthy.own, healthy.own_owners, settings)
    pair, receipts = read_case(folder, case)
    for draw in range(redrawn + 1):
        rng = np.random.default_rng([draw, CASES.index(case)])
        drawn = pair if draw == 0 else draw_again(pair, rng)
        yield verdicts(drawn, receipts, own, settings)


def verdicts(
    pair: Pair, receipts: ReceiptsCompared, active_own: Measured, settings: Settings
) -> tuple[bool, bool]:
    """Is the candidate refused by the gate, and by the gate without the comparison?"""
    own = measure(pair.own, pair.own_owners, settings)
    compared = paired(pair.active, pair.candidate, pair.owners, settings)
    against = {
        "release": ACTIVE,
        "digest": ACTIVE_DIGEST,
        "receipts": receipts.model_dump(mode="json"),
        **compared,
    }
    active = _manifest(ACTIVE, ACTIVE_DIGEST, active_own.as_metrics())
    ours, alone = own.as_metrics() | {"against": against}, own.as_metrics()
    return (
        bool(objections(_manifest(CANDIDATE, "", ours), active, settings.release)),
        bool(objections(_manifest(CANDIDATE, "", alone), active, settings.release)),
    )


def measure(ranks: Ranks, owners: NDArray[np.int64], settings: Settings) -> Measured:
    """Means and intervals, as evaluate has them."""
    values, rng = gains(ranks)[:, :2], np.random.default_rng(settings.train.seed)
    bounds = interval(values, owners, settings.evaluate.bootstrap, rng)
    return Measured(
        dict(zip(NAMES, values.mean(0).tolist(), strict=False)),
        dict(zip(NAMES, bounds.tolist(), strict=False)),
    )


def draw_again(pair: Pair, rng: np.random.Generator) -> Pair:
    """Draw owners with replacement, each with all its questions; a drawn owner is a new one."""
    places, owners = _draw(pair.owners, rng)
    own_places, own_owners = _draw(pair.own_owners, rng)
    return Pair(pair.active[places], pair.candidate[places], owners, pair.own[own_places], own_owners)


def _draw(owners: NDArray[np.int64], rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order = np.argsort(owners, kind="stable")
    _, starts, sizes = np.unique(owners[order], return_index=True, return_counts=True)
    drawn = rng.integers(len(starts), size=len(starts))
    of_draw = np.repeat(np.arange(len(drawn)), sizes[drawn])
    inside = np.arange(len(of_draw)) - np.repeat(np.cumsum(sizes[drawn]) - sizes[drawn], sizes[drawn])
    return order[starts[drawn][of_draw] + inside], of_draw


def _manifest(release: int, digest: str, metrics: dict[str, object]) -> ReleaseManifest:
    return ReleaseManifest.model_validate(
        {"release": release, "digest": digest, "contract": {}, "golden": (), "files": {}, "metrics": metrics}
    )
