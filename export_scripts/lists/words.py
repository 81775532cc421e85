"""The words of the items' names, as numbers: two names with the same words are likely the same need."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

MOST: Final = 6  # words of a name that are kept, the rarest first
_WORD: Final = re.compile(r"[^\W\d_]{2,}")  # sizes and weights are no need


def save_words(names: Sequence[str], folder: Path) -> None:
    """Write ``names.words.npy``: (items, MOST) int64, 0 pads. Row 0 is the unknown item."""
    np.save(folder / "names.words.npy", words_of(names))


def words_of(names: Sequence[str]) -> NDArray[np.int64]:
    """(items, MOST) the hashes of the words of each name, the rarest first, once each."""
    split = [sorted(set(_WORD.findall(name.casefold()))) for name in names]
    frequency = Counter(word for words in split for word in words)
    numbers = {word: _number(word) for word in frequency}
    found = np.zeros((len(split), MOST), np.int64)
    for row, words in enumerate(split):
        kept = sorted(words, key=lambda word: (frequency[word], word))[:MOST]
        found[row, : len(kept)] = [numbers[word] for word in kept]
    return found


def _number(word: str) -> int:
    """A positive number that other words hardly have."""
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=7).digest(), "little") + 1
