"""Write generated data in the form of the NCF paper's files, by default of ML-1M's size.

    python -m export_scripts.paper.generated FOLDER

A user's taste is a point between four of several groups, and moves during the user's history. A user draws
items without replacement, by popularity and by taste. Popularity and the lengths of histories have long
tails. The last item of each user is the test.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ML_1M = {"users": 6_040, "items": 3_706, "ratings": 1_000_209}  # the test included
NEGATIVES = 99
LEAST = 20  # items of a user, as in ML-1M
GROUPS, DIMENSIONS = 18, 24  # of tastes; ML-1M has 18 genres
STRENGTH = 1.5  # of taste beside popularity, in standard deviations of the log odds
DRIFT = 0.6  # of a taste from the first item to the last
SPREAD = 1.0  # of an item around its group


def write_files(folder: Path, users: int, items: int, ratings: int, seed: int) -> tuple[Path, Path, Path]:
    """Write generated.train.rating, generated.test.rating and generated.test.negative; ids start at 0."""
    rng = np.random.default_rng(seed)
    lengths = _lengths(users, items, ratings, rng)
    popularity = -0.9 * np.log(np.arange(items) + 0.03 * items) + 0.3 * rng.normal(size=items)
    rng.shuffle(popularity)
    centres = rng.normal(size=(GROUPS, DIMENSIONS))
    vectors = centres[rng.integers(GROUPS, size=items)] + SPREAD * rng.normal(size=(items, DIMENSIONS))
    vectors /= np.sqrt(1 + SPREAD**2)
    paths = tuple(folder / f"generated.{name}" for name in ("train.rating", "test.rating", "test.negative"))
    folder.mkdir(parents=True, exist_ok=True)
    train, test, negatives = (path.open("w", encoding="utf-8") for path in paths)
    with train, test, negatives:
        for user, length in enumerate(lengths):
            taste = rng.dirichlet(np.ones(4) / 2) @ centres[rng.integers(GROUPS, size=4)]
            taste += 0.3 * rng.normal(size=DIMENSIONS)
            later = taste + DRIFT * rng.normal(size=DIMENSIONS)
            first, last = (_affinity(vectors, point) for point in (taste, later))
            chosen, others = _draw(popularity + STRENGTH * (first + last) / 2, int(length), rng)
            # What the later taste prefers more than the earlier one comes later.
            chosen = chosen[np.argsort((last - first)[chosen] + rng.normal(size=length))]
            lines = [f"{user}\t{item}\t{rng.integers(1, 6)}\t{i}\n" for i, item in enumerate(chosen.tolist())]
            train.writelines(lines[:-1])
            test.write(lines[-1])
            sampled = rng.choice(others, NEGATIVES, replace=False)
            negatives.write("\t".join([f"({user},{chosen[-1]})", *map(str, sampled.tolist())]) + "\n")
    return paths  # type: ignore[return-value]  # three, by the names above


def _lengths(users: int, items: int, ratings: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The number of items of each user: a long tail, ``ratings`` in all."""
    most = items - NEGATIVES
    if not LEAST * users <= ratings <= most * users:
        raise SystemExit(f"{users} users need {LEAST * users} to {most * users} ratings, not {ratings}")
    tail = np.exp(rng.normal(0, 1.2, users))
    wished = LEAST + tail * (ratings / users - LEAST) / tail.mean()
    lengths: NDArray[np.int64] = np.clip(wished, LEAST, most).astype(np.int64)
    while missing := ratings - int(lengths.sum()):
        step = 1 if missing > 0 else -1
        open_ = np.flatnonzero(lengths < most if step > 0 else lengths > LEAST)
        lengths[rng.choice(open_, min(abs(missing), len(open_)), replace=False)] += step
    return lengths


def _affinity(vectors: NDArray[np.float64], taste: NDArray[np.float64]) -> NDArray[np.float64]:
    affinity: NDArray[np.float64] = vectors @ taste
    affinity -= affinity.mean()
    affinity /= affinity.std()
    return affinity


def _draw(
    log_odds: NDArray[np.float64], length: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw without replacement by the Gumbel trick: the items chosen, and all others."""
    order: NDArray[np.int64] = np.argpartition(-(log_odds + rng.gumbel(size=len(log_odds))), length - 1)
    return order[:length], order[length:]


def main() -> None:
    parser = argparse.ArgumentParser(description="Write generated files in the form of the NCF paper's.")
    parser.add_argument("folder", type=Path)
    for name, value in ML_1M.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--seed", type=int, default=7)
    for path in write_files(**vars(parser.parse_args())):
        print(path)


if __name__ == "__main__":
    main()
