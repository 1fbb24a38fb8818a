"""Counter-based draws: known answers, the logarithm's accuracy, the exponential law."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude_sampler.leasing import exponentials, lane_key, philox4x32
from etude_sampler.leasing.logarithm import natural_log

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([ONES] * 4, [ONES] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_known_answers(counter: list[int], key: list[int], words: list[int]) -> None:
    rows = np.array([[1, 2, 3, 4], counter], dtype=np.uint32)
    assert philox4x32(rows, np.array(key, dtype=np.uint32))[1].tolist() == words


def _ulps(one: float, other: float) -> int:
    """Distance of two doubles of one sign in units of the last place."""
    left, right = (struct.unpack("<q", struct.pack("<d", x))[0] for x in (one, other))
    return abs(int(left) - int(right))


@settings(deadline=None, max_examples=500)
@given(st.integers(1, 2**53))
def test_the_logarithm_is_within_two_ulps(numerator: int) -> None:
    value = numerator * 2.0**-53
    assert _ulps(float(natural_log(np.array([value]))[0]), math.log(value)) <= 2


def test_the_logarithm_at_the_edges() -> None:
    edges = [2.0**-53, 2.0**-52, 0.5, math.sqrt(0.5), math.nextafter(math.sqrt(0.5), 0), 1.0]
    near = [1.0 - 2.0**-53, math.nextafter(0.5, 1), 1.5, 1e300]
    values = np.array(edges + near)
    for got, value in zip(natural_log(values).tolist(), values.tolist(), strict=True):
        assert _ulps(got, math.log(value)) <= 2


def test_golden_draws() -> None:
    """Draws of a release stay the draws of the next: a stored run must replay."""
    draws = exponentials(
        2**40 + 7,
        ordinals_N=np.array([0, 1, 2**32 - 1]),
        entries_N=np.array([0, 5, 2**31]),
        lane_keys_L=[lane_key("uniform"), lane_key("format")],
    )
    assert [x.hex() for x in draws.ravel().tolist()] == GOLDEN


GOLDEN: list[str] = [
    "0x1.13d3ee64d38bep+0",
    "0x1.1d6c3c5c2bceap+0",
    "0x1.cae2eadf1eb4dp-1",
    "0x1.f97bcd075412cp-1",
    "0x1.90a5c826b330ap-4",
    "0x1.98e4c8195a04ep-3",
]


def test_a_draw_is_minus_the_log_of_53_bits() -> None:
    key = np.array([7, 2**8], dtype=np.uint32)
    counter = np.array([[3, 4, lane_key("format"), 0]], dtype=np.uint32)
    high, low = (int(word) for word in philox4x32(counter, key)[0, :2])
    uniform = ((high >> 5) * 2**26 + (low >> 6) + 1) / 2**53
    draw = exponentials(
        2**40 + 7,
        ordinals_N=np.array([3]),
        entries_N=np.array([4]),
        lane_keys_L=[lane_key("format")],
    )
    assert draw[0, 0] == pytest.approx(-math.log(uniform), rel=1e-15)


def test_a_lane_more_shifts_no_draw() -> None:
    ordinals, entries = np.arange(50), np.full(50, 3)
    names = ["uniform", "format", "tool_name"]
    keys = [lane_key(name) for name in names]
    full = exponentials(1, ordinals_N=ordinals, entries_N=entries, lane_keys_L=keys)
    less = exponentials(1, ordinals_N=ordinals[9:], entries_N=entries[9:], lane_keys_L=keys[::2])
    assert less.tobytes() == np.ascontiguousarray(full[9:, ::2]).tobytes()


def test_draws_follow_the_exponential_law() -> None:
    draws = exponentials(
        11, ordinals_N=np.arange(20_000), entries_N=np.zeros(20_000, np.int64), lane_keys_L=[1, 2]
    )
    assert draws.min() >= 0.0
    assert draws.max() < 36.75
    assert draws.mean() == pytest.approx(1.0, abs=0.02)
    # Chi-square over 20 cells of equal probability, 19 degrees: 43.8 is the 0.1 % point.
    for column in draws.T:
        cells = np.floor(np.exp(-column) * 20).clip(0, 19)
        counts = np.bincount(cells.astype(np.int64), minlength=20)
        assert np.sum((counts - 1000) ** 2 / 1000) < 43.8
    assert abs(np.mean((draws[:, 0] - 1.0) * (draws[:, 1] - 1.0))) < 0.03


def test_no_draw_is_negative_zero() -> None:
    assert math.copysign(1.0, 0.0 - float(natural_log(np.array([1.0]))[0])) == 1.0


@pytest.mark.parametrize(
    ("seed", "ordinal", "entry", "what"),
    [
        (-1, 0, 0, "seed"),
        (2**64, 0, 0, "seed"),
        (0, -1, 0, "ordinals_N"),
        (0, 0, 2**32, "entries_N"),
    ],
)
def test_numbers_out_of_range_are_refused(seed: int, ordinal: int, entry: int, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        exponentials(
            seed, ordinals_N=np.array([ordinal]), entries_N=np.array([entry]), lane_keys_L=[0]
        )


def test_no_tasks_or_no_lanes() -> None:
    nobody = np.array([], dtype=np.int64)
    assert exponentials(1, ordinals_N=nobody, entries_N=nobody, lane_keys_L=[1]).shape == (0, 1)
    one = np.array([1])
    assert exponentials(1, ordinals_N=one, entries_N=one, lane_keys_L=[]).shape == (1, 0)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**64 - 1),
    rows=st.lists(
        st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), min_size=1, max_size=12
    ),
    lanes=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5),
    block=st.integers(1, 9),
)
def test_many_at_once_are_the_same_as_one_by_one(
    seed: int, rows: list[tuple[int, int]], lanes: list[int], block: int
) -> None:
    """A rebuild draws in bulk what settle draws task by task: the same bits, however it is cut."""

    def draw(ordinals: list[int], entries: list[int], keys: list[int]) -> bytes:
        found = exponentials(
            seed,
            ordinals_N=np.array(ordinals, dtype=np.int64),
            entries_N=np.array(entries, dtype=np.int64),
            lane_keys_L=keys,
        )
        return found.tobytes()

    ordinals, entries = [row[0] for row in rows], [row[1] for row in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("etude_sampler.leasing.entries._BLOCK", block)
        bulk = draw(ordinals, entries, lanes)
    single = b"".join(draw([o], [e], [lane]) for o, e in rows for lane in lanes)
    assert bulk == single
