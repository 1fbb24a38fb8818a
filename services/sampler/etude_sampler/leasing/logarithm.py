"""Natural logarithm from basic IEEE operations, so that every machine gets the same bits.

numpy's `log` follows whatever SIMD library it was built with and may differ in the last place
between machines; a draw must not (invariant 8). Neighbour: `entries`.
"""

from __future__ import annotations

import numpy as np

from etude_sampler.statistics.arrays import Floats

_NUM_TERMS = 11
_COEFFICIENTS = tuple(2.0 / (2 * j + 1) for j in range(_NUM_TERMS, 0, -1))
_SQRT_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")
_LN2_HIGH = float.fromhex("0x1.62e42fefp-1")
"""Leading 33 bits of ln 2: its product with an exponent is exact."""
_LN2_LOW = float.fromhex("0x1.473de6af278edp-34")
"""The rest of ln 2, to 53 more bits."""


def natural_log(values: Floats) -> Floats:
    """ln of positive, finite, normal numbers, within 2 units in the last place.

    `x = 2^e (1 + f)` with `1 + f` in [sqrt(1/2), sqrt(2)); with `s = f / (2 + f)` and `z = s^2`,
    `ln(1 + f) = 2 s + s R`, `R = 2 z/3 + 2 z^2/5 + ...`, and `2 s = f - s f`. Eleven terms reach
    below half a unit since z <= 0.0295.
    """
    fraction, exponent = np.frexp(values)
    small = fraction < _SQRT_HALF
    f = np.where(small, 2.0 * fraction, fraction) - 1.0
    e = (exponent - small).astype(np.float64)
    s = f / (2.0 + f)
    z = s * s
    series = np.zeros_like(z)
    for coefficient in _COEFFICIENTS:
        series += coefficient
        series *= z
    tail = s * (f - series)
    result: Floats = e * _LN2_HIGH + (f - (tail - e * _LN2_LOW))
    return result
