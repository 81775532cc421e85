"""Computes a question whose key in Triton's response cache equals that of another question.

The key is 64 bits wide. Triton 2.51 folds every byte of the model's name, the version, and each input's name
and bytes (inputs in the order of their names) into it with the hash_combine of Boost 1.56 to 1.80:

    state = (state ^ mix(byte)) * MULTIPLIER + ADDEND    (mod 2**64)

One step can be reversed. The lowest n bits of a state depend on the lowest n bits of the state before and on
nothing else. So there are two halves, and each half is a meeting in the middle of some million states:

1. a prefix that leads to the wanted lowest 32 bits, and many loops: texts that leave these bits unchanged
2. four loops in a row whose effect on the highest 32 bits leads to the wanted ones

The last input by name is `user_id`, which is any text. So any basket, followed by such a text, gets any key.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from loadtests.questions import Question

MODEL: Final = "recommender"
LENGTH: Final = 40  # characters of the computed user id: a prefix and four loops
ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

_HALF: Final = 4  # characters on each side of a meeting
_BITS: Final = 2**64 - 1
_MULTIPLIER: Final = 0xC6A4A7935BD1E995
_INVERSE: Final = pow(_MULTIPLIER, -1, 2**64)
_ADDEND: Final = 0xE6546B64
_LOOPS: Final = 700  # 700**4 chains for 2**32 states: some 50 of them fit

Inputs = Mapping[str, Sequence[str]]  # an input's name → its ids
States = NDArray[Any]  # uint32 or uint64
Codes = NDArray[np.uint8]  # (texts, characters)


def inputs_of(question: Question) -> dict[str, list[str]]:
    """The inputs that a gateway sends for a question. Basket and user are sent even when they are empty."""
    return {"basket": list(question.basket) or [""], "user_id": [question.user_id]}


def cache_key(release: int, inputs: Inputs, model: str = MODEL) -> int:
    """The key of a question to this release. The shapes of inputs are no part of it."""
    return _fold_inputs(_fold_release(release, model), inputs)


def find_collision(
    victim: Inputs, basket: Sequence[str], release: int, rng: np.random.Generator, model: str = MODEL
) -> str:
    """Find a user id that, with `basket`, gives the key of the `victim`'s inputs.

    Raises ValueError if no text is found; another generator may find one.
    """
    target = cache_key(release, victim, model)
    start = _fold_inputs(_fold_release(release, model), {"basket": basket})
    start = _fold_bytes(_fold(start, _hash_text("user_id")), LENGTH.to_bytes(4, "little"))
    prefix = _meet(start, target, 2**18, rng)[:1]
    loops = _meet(target, target, 2**21, rng)[:_LOOPS]
    if not len(prefix):
        raise ValueError("no prefix leads to the lowest 32 bits of the key; try another generator")
    first: bytes = prefix[0].tobytes()
    return (first + _chain(_fold_bytes(start, first), target, loops)).decode()


# ---- the key, one value at a time


def _mix(value: int) -> int:
    value = value * _MULTIPLIER & _BITS
    return (value ^ value >> 47) * _MULTIPLIER & _BITS


def _fold(state: int, value: int) -> int:
    return ((state ^ _mix(value)) * _MULTIPLIER + _ADDEND) & _BITS


def _fold_bytes(state: int, content: bytes) -> int:
    for byte in content:
        state = _fold(state, byte)
    return state


def _hash_text(text: str) -> int:
    """Names are ASCII: Boost reads a larger byte as a negative number."""
    return _fold_bytes(0, text.encode("ascii"))


def _fold_release(release: int, model: str) -> int:
    return _fold(_fold(0, _hash_text(model)), release)


def _fold_inputs(state: int, inputs: Inputs) -> int:
    for name, ids in sorted(inputs.items()):
        state = _fold(state, _hash_text(name))
        for value in ids:
            content = value.encode()
            state = _fold_bytes(state, len(content).to_bytes(4, "little") + content)
    return state


# ---- many states at once, in 32 or 64 bits


def _mixed(kind: type) -> States:
    """By byte: the value that a step combines with the state."""
    return np.array([_mix(byte) for byte in range(256)], np.uint64).astype(kind)


def _states(value: int, kind: type) -> States:
    """One state, as an array: numpy warns when a single number overflows."""
    return np.array([value], np.uint64).astype(kind)


def _forward(states: States, texts: Codes, mixed: States) -> States:
    multiplier, addend = (_states(value, mixed.dtype.type) for value in (_MULTIPLIER, _ADDEND))
    for column in texts.T:
        states = (states ^ mixed[column]) * multiplier + addend
    return states


def _backward(states: States, texts: Codes, mixed: States) -> States:
    """The states from which each text leads to `states`."""
    inverse, addend = (_states(value, mixed.dtype.type) for value in (_INVERSE, _ADDEND))
    for column in texts.T[::-1]:
        states = ((states - addend) * inverse) ^ mixed[column]
    return states


def _meet(start: int, target: int, count: int, rng: np.random.Generator) -> Codes:
    """Texts of 8 characters that lead from the lowest 32 bits of `start` to those of `target`.

    `count` texts on each side give some count**2 / 2**32 of them.
    """
    mixed = _mixed(np.uint32)
    alphabet = np.frombuffer(ALPHABET, np.uint8)
    firsts, seconds = (alphabet[rng.integers(len(alphabet), size=(count, _HALF))] for _ in range(2))
    reached = _forward(_states(start, np.uint32), firsts, mixed)
    wanted = _backward(_states(target, np.uint32), seconds, mixed)
    one, other = _pairs(reached, wanted)
    return np.concatenate([firsts[one], seconds[other]], axis=1)


def _chain(start: int, target: int, loops: Codes) -> bytes:
    """Four loops in a row that lead from `start` to `target`, whose lowest 32 bits are equal."""
    mixed, n = _mixed(np.uint64), len(loops)
    firsts = _forward(_states(start, np.uint64), loops, mixed)
    reached = np.stack([_forward(state, loops, mixed) for state in firsts])  # (first, second)
    lasts = _backward(_states(target, np.uint64), loops, mixed)
    wanted = np.stack([_backward(state, loops, mixed) for state in lasts])  # (fourth, third)
    one, other = _pairs(reached.ravel(), wanted.ravel())
    if not len(one):
        raise ValueError(f"no chain of {n} loops leads to the key; try another generator")
    chain = (*divmod(int(one[0]), n), *divmod(int(other[0]), n)[::-1])
    return b"".join(loops[place].tobytes() for place in chain)


def _pairs(one: States, other: States) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The places of equal values; one place in `other` for each place in `one`."""
    order = np.argsort(other)
    found = np.searchsorted(other[order], one).clip(max=len(other) - 1)
    at = order[found]
    same = np.flatnonzero(other[at] == one)
    return same, at[same]
