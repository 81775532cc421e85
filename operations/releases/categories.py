"""The categories of two releases: which ones vanish, and how much customers buy from them.

Callers name categories in their requests. A category that a release does not know matches nothing.
"""

import io
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from operations.records.contract import SAMPLER
from operations.records.manifest import ReleaseManifest
from operations.releases.models.placing import models_of
from operations.releases.stores.store import Repository
from operations.settings import ReleaseSettings

NAMED: Final = 3  # vanished categories that a sentence names


def category_objections(
    repository: Repository,
    candidate: ReleaseManifest,
    active: ReleaseManifest,
    bars: ReleaseSettings,
) -> list[str]:
    """Clauses against a release that lacks too many or too large categories of the active one."""
    ours, theirs = (category_shares(repository, release) for release in (candidate, active))
    if ours is None or not theirs:
        return []
    lost = sorted(theirs.keys() - ours.keys(), key=lambda name: (-theirs[name], name))
    large = [name for name in lost if theirs[name] > bars.lost_category]
    against = []
    if large:
        named = ", ".join(f'"{name}" ({theirs[name]:.1%})' for name in large[:NAMED])
        more = f" and {len(large) - NAMED} more" if len(large) > NAMED else ""
        against.append(
            f"it lacks categories that release {active.release} has, with their shares of the purchases: "
            f"{named}{more}; requests that name them would find nothing (release.lost_category)"
        )
    if len(lost) > bars.lost_categories * len(theirs):
        named = ", ".join(f'"{name}"' for name in lost[:NAMED])
        against.append(
            f"it lacks {len(lost)} of release {active.release}'s {len(theirs)} categories, {named} among "
            f"them; at most {bars.lost_categories:.0%} may vanish (release.lost_categories)"
        )
    return against


def category_shares(repository: Repository, release: ReleaseManifest) -> dict[str, float] | None:
    """Category → its share of a release's purchases; None if the arrays do not tell.

    A release that is damaged must not keep another one from replacing it.
    """
    try:
        read = partial(read_array, repository, release)
        sales = np.expm1(read("popularity.score").astype(np.float64))  # per 10,000 baskets
        members, offsets = read("categories.members"), read("categories.members_offsets")
        sums = np.concatenate([[0.0], np.cumsum(sales[members])])[offsets]
        names = _names(read)
    except (OSError, ValueError, IndexError, EOFError):
        return None
    shares = np.diff(sums) / max(float(sales.sum()), 1e-9)
    return {name: float(share) for name, share in zip(names, shares, strict=False) if name}


def category_sizes(repository: Repository, release: ReleaseManifest) -> dict[str, int] | None:
    """Category → the number of its items in a release; None if the arrays do not tell."""
    try:
        read = partial(read_array, repository, release)
        names, sizes = _names(read), np.diff(read("categories.members_offsets").astype(np.int64)).tolist()
    except (OSError, ValueError, IndexError, EOFError):
        return None
    return {name: size for name, size in zip(names, sizes, strict=False) if name}


def read_array(repository: Repository, release: ReleaseManifest, name: str) -> NDArray[Any]:
    """Read an array of a release's sampler. Raises OSError, EOFError or ValueError if it is damaged."""
    path = f"{models_of(release)[SAMPLER]}/{release.release}/arrays/{name}.npy"
    return np.asarray(np.load(io.BytesIO((repository / path).read_bytes()), allow_pickle=False))


def _names(read: Callable[[str], NDArray[Any]]) -> list[str]:
    """The names by number; the first is empty."""
    text, ends = read("category_names.blob").tobytes(), read("category_names.offsets").tolist()
    return [text[start:end].decode() for start, end in pairwise(ends)]
