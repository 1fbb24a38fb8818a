"""Philox4x32-10: a random number generator that is a function of a counter and a key.

Algorithm: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). Neighbour:
`entries`, which maps (seed, task, entry, lane) to counter and key.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 10
_MULTIPLIERS = np.array([[0xD2511F53], [0xCD9E8D57]], dtype=np.uint64)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox4x32(counter_N4: NDArray[np.uint32], key_2: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Four random words per counter.

    Args:
        counter_N4: [N, 4] counters, least significant word first.
        key_2: [2] key of all N.

    Returns:
        [N, 4] words, in the order of the published test vectors.
    """
    wide = counter_N4.astype(np.uint64)
    even = np.ascontiguousarray(wide[:, 0::2].T)
    odd = np.ascontiguousarray(wide[:, 1::2].T)
    key = [int(key_2[0]), int(key_2[1])]
    for _ in range(_ROUNDS):
        product = even * _MULTIPLIERS
        even = (product >> _SHIFT)[::-1]
        even = even ^ odd
        even ^= np.array([[key[0]], [key[1]]], dtype=np.uint64)
        product &= _MASK
        odd = product[::-1]
        key = [(word + step) & 0xFFFFFFFF for word, step in zip(key, _WEYL, strict=True)]
    words = np.empty(counter_N4.shape, dtype=np.uint32)
    words[:, 0::2] = even.T
    words[:, 1::2] = odd.T
    return words
