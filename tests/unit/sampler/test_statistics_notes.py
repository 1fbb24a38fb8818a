"""Notes: laid out side by side, folded each by its own rule, none of another's business."""

from __future__ import annotations

import numpy as np
import pytest

from etude_sampler.statistics import (
    EstimatorConstants,
    Floats,
    GroupSummary,
    Ints,
    Note,
    Shape,
    TaskStatistics,
    empty,
    fold,
    fresh_values,
    layout,
    summarise,
)
from support.groups import binary_group


def _visits(x_NW: Floats, before: TaskStatistics, summary: GroupSummary, version_N: Ints) -> Floats:
    assert (before.n_N == x_NW[:, 0]).all(), "the statistics are those before the group"
    return x_NW + 1.0


def _last(x_NW: Floats, before: TaskStatistics, summary: GroupSummary, version_N: Ints) -> Floats:
    return np.stack([version_N.astype(float), summary.num_success_N.astype(float)], axis=1)


VISITS, LAST = Note("visits", (0.0,), _visits), Note("last", (-1.0, 0.5), _last)


def test_notes_are_laid_out_in_order_and_folded_by_their_own_rules() -> None:
    notes = (VISITS, LAST)
    assert layout(notes) == {"visits": slice(0, 1), "last": slice(1, 3)}
    assert fresh_values(notes) == (0.0, -1.0, 0.5)
    stats = empty(1, 1, fresh_values(notes))
    assert stats.x_NE.tolist() == [[0.0, -1.0, 0.5]]
    for version, right in ((3, 2), (5, 0)):
        group = summarise(binary_group(4, right))
        stats = fold(
            stats,
            group,
            version_N=np.array([version]),
            constants=EstimatorConstants(),
            notes=notes,
        )
        assert stats.x_NE[0].tolist() == [float(stats.n_N[0]), float(version), float(right)]


def test_without_notes_nothing_is_kept() -> None:
    stats = empty(2, 3)
    assert stats.x_NE.shape == (2, 0)
    assert stats.select(slice(0, 1)).x_NE.shape == (1, 0)
    assert Shape(3).fresh == ()


def test_a_note_holds_something() -> None:
    with pytest.raises(ValueError, match="holds nothing"):
        Note("empty", (), _last)
