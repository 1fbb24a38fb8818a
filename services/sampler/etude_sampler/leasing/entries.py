"""The exponential draw of an entry into a lane, as a function of names and numbers.

Neighbours: `philox` and `logarithm` below; the store asks for these numbers whenever tasks enter
their lanes, on any replica, and gets the same ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from etude_sampler.statistics.arrays import Floats, Ints

from .logarithm import natural_log
from .philox import philox4x32

_WORD = 1 << 32
_BLOCK = 20_000
"""Draws at a time."""


def lane_key(name: str) -> int:
    """CRC-32 of a lane's name: adding a lane never shifts another lane's draws."""
    return zlib.crc32(name.encode("utf-8"))


def exponentials(
    seed: int, *, ordinals_N: Ints, entries_N: Ints, lane_keys_L: Sequence[int]
) -> Floats:
    """Standard exponential numbers `-ln U` for N entries into L lanes (rule L1).

    Counter (ordinal, entry, lane key, 0), key the seed's two words; U in (0, 1] takes 53 bits of
    the first two output words. Bit-identical on every machine.

    Args:
        seed: the run's seed, in [0, 2^64).
        ordinals_N: [N] task ordinals, in [0, 2^32).
        entries_N: [N] entry numbers of these tasks, in [0, 2^32).
        lane_keys_L: [L] keys from `lane_key`.

    Returns:
        [N, L] numbers in [0, 36.74]; each depends on its own row and lane alone. Drawn in blocks
        that fit a core's cache, which is about four times faster than in one piece.

    Raises:
        ValueError: an argument is out of its range.
    """
    if not 0 <= seed < _WORD * _WORD:
        raise ValueError("seed must be in [0, 2^64)")
    for name, values in (("ordinals_N", ordinals_N), ("entries_N", entries_N)):
        if values.size and not (values.min() >= 0 and values.max() < _WORD):
            raise ValueError(f"{name} must be in [0, 2^32)")
    key = np.array([seed % _WORD, seed // _WORD], dtype=np.uint32)
    lanes_L = np.array(lane_keys_L, dtype=np.uint32)
    draws_NL = np.empty((len(ordinals_N), len(lanes_L)))
    step = max(1, _BLOCK // max(1, len(lanes_L)))
    for first in range(0, len(ordinals_N), step):
        rows = slice(first, first + step)
        draws_NL[rows] = _block(ordinals_N[rows], entries_N[rows], lanes_L, key)
    return draws_NL


def uniforms(
    seed: int, *, ordinals_N: Ints, entries_N: Ints, key: int, number: int | Ints = 1
) -> Floats:
    """A number in (0, 1] for each of N entries, beside those that race (our choice).

    Counter (ordinal, entry, key, number); `exponentials` has number 0. Bit-identical on every
    machine.

    Args:
        seed: the run's seed, in [0, 2^64).
        ordinals_N: [N] task ordinals, in [0, 2^32).
        entries_N: [N] entry numbers of these tasks, in [0, 2^32).
        key: what the numbers are for, from `lane_key`.
        number: which of an entry's numbers, in [1, 2^32); one for all, or [N].
    """
    counter_N4 = np.empty((len(ordinals_N), 4), dtype=np.uint32)
    counter_N4[:, 0], counter_N4[:, 1] = ordinals_N, entries_N
    counter_N4[:, 2], counter_N4[:, 3] = key, number
    return _fractions(counter_N4, np.array([seed % _WORD, seed // _WORD], dtype=np.uint32))


def _fractions(counter_N4: NDArray[np.uint32], key_2: NDArray[np.uint32]) -> Floats:
    """A number in (0, 1] for each counter: 53 bits of its first two words."""
    words = philox4x32(counter_N4, key_2).astype(np.uint64)
    high, low = words[:, 0] >> np.uint64(5), words[:, 1] >> np.uint64(6)
    fraction_N: Floats = ((high << np.uint64(26)) + low + np.uint64(1)).astype(np.float64)
    return fraction_N * 2.0**-53


def _block(
    ordinals_N: Ints, entries_N: Ints, lanes_L: NDArray[np.uint32], key: NDArray[np.uint32]
) -> Floats:
    """The draws of a few tasks."""
    num_tasks, num_lanes = len(ordinals_N), len(lanes_L)
    counter = np.zeros((num_tasks, num_lanes, 4), dtype=np.uint32)
    counter[:, :, 0] = ordinals_N[:, None]
    counter[:, :, 1] = entries_N[:, None]
    counter[:, :, 2] = lanes_L
    uniform = _fractions(counter.reshape(-1, 4), key)
    return (0.0 - natural_log(uniform)).reshape(num_tasks, num_lanes)
