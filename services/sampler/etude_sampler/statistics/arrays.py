"""Array types of the pure core, and the one summation that statistics use.

Neighbours: `group` and `task` fold with it; `curriculum` and `leasing` share the type names.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
"""Array of float64."""
Ints = NDArray[np.int64]
"""Array of int64."""
Bools = NDArray[np.bool_]
"""Array of booleans."""


def sum_over_group(values_NG: Floats) -> Floats:
    """Sum over axis 1 in an order fixed by position alone.

    `np.sum` may change its order of additions with the shape and the machine; a rebuild must be
    bit-identical. The second half is folded onto the first until one column is left, so padding
    with zeros at the end, and the number of rows, change nothing.

    Args:
        values_NG: [N, G] or [N, G, K], G >= 1.

    Returns:
        [N] or [N, K].

    Raises:
        ValueError: G is 0.
    """
    if values_NG.shape[1] == 0:
        raise ValueError("a group needs at least one rollout")
    rest = values_NG
    while rest.shape[1] > 1:
        half = 1 << ((rest.shape[1] - 1).bit_length() - 1)
        head = rest[:, :half].copy()
        head[:, : rest.shape[1] - half] += rest[:, half:]
        rest = head
    return rest[:, 0]
