"""Random numbers for augmentation that depend on (seed, epoch, sample, repetition) alone, never on who asks first.

Operations on whole batches draw from a stateless hash (`integers`, `uniform`, `generators`). Transforms of single
images, which come from libraries and use the global generators, run inside `seeded_generators`.
"""

import contextlib
import functools
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_MASK = (1 << 64) - 1

# One stream of random draws for each purpose, so that images of the same index are shuffled and augmented independently: the
# labelled and the unlabelled ones, and the pass for the label mapping, which must not see the views that the epoch trains on
STREAM_X, STREAM_U, STREAM_MAPPING = 0, 1, 2


@dataclass(frozen=True)
class SampleKeys:
    """What identifies the random draws of a batch.

    Args:
        seed: the run's seed.
        epoch: the current epoch; 0 outside training.
        index: (B,) position of each sample in its split.
        repetition: which of several augmented copies of the same sample.
        stream: tells apart data sources that share seed, epoch and index (labelled and unlabelled images).
    """

    seed: int
    epoch: int
    index: np.ndarray
    repetition: int = 0
    stream: int = 0


def derive_seed(*parts: int | str) -> int:
    """A 64-bit seed from whole numbers and texts, the same on every machine and in every process."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def hash64(keys: SampleKeys, purpose: str) -> np.ndarray:
    """(B,) uint64 values, uniform and independent over keys and purposes (splitmix64 in counter mode).

    Args:
        purpose: a name for what the numbers are used for, so that two uses never share a draw.
    """
    base = _base(keys.seed & _MASK, keys.epoch, keys.repetition, keys.stream, purpose)
    with np.errstate(over="ignore"):  # wrapping round is what the arithmetic relies on
        state = np.asarray(keys.index).astype(np.uint64) * _GAMMA + base
        for _ in range(2):  # twice: neighbouring indices and neighbouring seeds must not correlate
            state = state + _GAMMA
            state = (state ^ (state >> np.uint64(30))) * _MIX_1
            state = (state ^ (state >> np.uint64(27))) * _MIX_2
            state = state ^ (state >> np.uint64(31))
    return state


@functools.lru_cache(maxsize=256)
def _base(*parts):
    return np.uint64(derive_seed(*parts))


def integers(keys: SampleKeys, purpose: str, high: int) -> np.ndarray:
    """(B,) int64 whole numbers, uniform in 0 .. high - 1 (`high` below 2**32)."""
    return ((hash64(keys, purpose) >> np.uint64(32)) * np.uint64(high) >> np.uint64(32)).astype(np.int64)


def uniform(keys: SampleKeys, purpose: str) -> np.ndarray:
    """(B,) float64 numbers, uniform in [0, 1)."""
    return (hash64(keys, purpose) >> np.uint64(11)) * 2.0**-53


def generators(keys: SampleKeys, purpose: str) -> Iterator[torch.Generator]:
    """One CPU `torch.Generator` per sample, for draws of many numbers each."""
    for value in hash64(keys, purpose):
        yield torch.Generator().manual_seed(int(value >> np.uint64(1)))


@contextlib.contextmanager
def seeded_generators(seed: int) -> Iterator[None]:
    """Seed python's, numpy's and torch's (CPU) global generators inside the block and restore them after it."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    # not torch.manual_seed, which would reseed the accelerators too
    torch.default_generator.manual_seed(seed & (_MASK >> 1))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
