"""Is a canary release worse than the active one? Three shares of both, from the same minutes.

A share is held against the other's by the interval of their difference (R. Newcombe, "Interval estimation for
the difference between independent proportions", 1998, method 10). A release is worse if the whole interval
lies above what is allowed. So chance alone condemns no release, and an equal one is judged as good.
"""

import math
from typing import Final

from export_scripts.retraining.journal import Canary, Figure, Verdict
from export_scripts.settings import RetrainSettings
from operations.gateway.traffic import (
    ANSWERED,
    COVERED,
    FAILED,
    ITEMS,
    PROBES,
    QUERIES,
    QUICK,
    TIMED,
    UNKNOWN,
)
from operations.records.contract import ENSEMBLE
from operations.releases.models.configs import CANARY

SURE: Final = 1.96  # standard errors: 95 %
EVIDENT: Final = 4.0  # for one of many looks during the watch, which must not end a good release by chance

Share = tuple[float, float]  # how many, of how many


def judge(canary: Canary, active: int, settings: RetrainSettings) -> Verdict:
    """Judge a canary release by its sums; undecided with too few requests, or without their counts."""
    (_, ours), (_, theirs) = _errors(canary)
    figures = _figures(canary, active, settings, SURE)
    worse = [_describe(figure) for figure in figures if figure.interval[0] > figure.allowed]
    if unclear := _unclear(canary, int(ours), int(theirs), settings.least_requests):
        return Verdict(found="undecided", requests=int(ours), objections=unclear, figures=figures)
    return Verdict(
        found="worse" if worse else "as good", requests=int(ours), objections=worse, figures=figures
    )


def _unclear(canary: Canary, ours: int, theirs: int, least: int) -> list[str]:
    """Name what is missing for a judgement."""
    if ours < least:
        return [f"it answered {ours} requests, and {least} are needed to judge it"]
    if theirs < least:
        return [f"the active release answered {theirs} requests, and {least} are needed to compare it"]
    counted = {"requests by their time": TIMED, "items in baskets": QUERIES}
    release = str(canary.release)
    return [
        f"nobody counted its {what}; are Triton's and the gateway's metrics read?"
        for what, name in counted.items()
        if not _of(canary, name, release)
    ]


def is_evidently_worse(canary: Canary, active: int, settings: RetrainSettings) -> bool:
    """Tell whether a release that can be judged need not be watched any longer."""
    if judge(canary, active, settings).found != "worse":
        return False
    figures = _figures(canary, active, settings, EVIDENT)
    return any(figure.interval[0] > figure.allowed for figure in figures)


def _figures(canary: Canary, active: int, settings: RetrainSettings, sure: float) -> list[Figure]:
    shares = {
        "failed requests": (_errors(canary), settings.errors),
        "requests over 50 ms": ((_slow(canary, canary.release), _slow(canary, active)), settings.slow),
        "unknown items": (
            (_unknown(canary, canary.release, 0.0), _unknown(canary, active, _of(canary, PROBES, ""))),
            settings.unknown_items,
        ),
    }
    return [
        Figure(
            name=name,
            canary=_ratio(ours),
            active=_ratio(theirs),
            interval=difference(ours, theirs, sure),
            allowed=allowed,
        )
        for name, ((ours, theirs), allowed) in shares.items()
    ]


def _errors(canary: Canary) -> tuple[Share, Share]:
    """A question that the canary did not answer was answered by the active one: its failure all the same."""
    covered = _of(canary, COVERED, "")
    ours = _of(canary, FAILED, CANARY) + covered, _of(canary, ANSWERED, CANARY) + covered
    return ours, (_of(canary, FAILED, ENSEMBLE), _of(canary, ANSWERED, ENSEMBLE) - covered)


def _slow(canary: Canary, release: int) -> Share:
    timed = _of(canary, TIMED, str(release))
    return timed - _of(canary, QUICK, str(release)), timed


def _unknown(canary: Canary, release: int, probes: float) -> Share:
    """The share of items, counted as if each query had one: items of one basket are not independent."""
    items, unknown, queries = (
        max(0.0, _of(canary, name, str(release)) - probes) for name in (ITEMS, UNKNOWN, QUERIES)
    )
    of = min(items, queries)
    return (unknown / items * of, of) if items else (0.0, queries)


def _of(canary: Canary, name: str, label: str) -> float:
    return canary.sums.get(name, {}).get(label, 0.0)


def difference(ours: Share, theirs: Share, sure: float = SURE) -> tuple[float, float]:
    """The interval of the share ``ours`` minus the share ``theirs``."""
    p, q = _ratio(ours), _ratio(theirs)
    (low, high), (other_low, other_high) = _wilson(ours, sure), _wilson(theirs, sure)
    return p - q - math.hypot(p - low, other_high - q), p - q + math.hypot(high - p, q - other_low)


def _wilson(share: Share, sure: float) -> tuple[float, float]:
    """Wilson's interval of one share; everything is possible without a request."""
    of = share[1]
    if of <= 0:
        return 0.0, 1.0
    p, z2 = _ratio(share), sure * sure / of
    middle, half = p + z2 / 2, sure * math.sqrt(p * (1 - p) / of + z2 / (4 * of))
    return max(0.0, (middle - half) / (1 + z2)), min(1.0, (middle + half) / (1 + z2))


def _ratio(share: Share) -> float:
    return min(1.0, max(0.0, share[0] / share[1])) if share[1] > 0 else 0.0


def _describe(figure: Figure) -> str:
    low, high = figure.interval
    return (
        f"{figure.name}: {figure.canary:.2%} beside {figure.active:.2%} of the active release in the same "
        f"minutes; the difference is {low:+.2%} to {high:+.2%}, and {figure.allowed:.2%} are allowed"
    )
