"""Parts from installed packages: the good ones join the table, the others are described."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from etude_proto.v1.curriculum import CurriculumConfig
from etude_sampler.curriculum import ConfigFault, build, part_table, resolve
from etude_sampler.curriculum.installed import usable
from etude_sampler.curriculum.table import BUILT_IN
from etude_sampler.statistics import empty
from support.groups import COMPONENTS
from support.plugins import HEAD, lay_out


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that Python imports from; the table is read anew before and after."""
    monkeypatch.syspath_prepend(str(tmp_path))
    part_table.cache_clear()
    yield tmp_path
    part_table.cache_clear()
    for module in sys.modules.keys() & {"flat_part", "bad_part", "a_part", "b_part"}:
        del sys.modules[module]  # the next test has another one of that name


def _broken() -> list[tuple[str, str, str]]:
    return [(one.package, one.entry, one.detail) for one in part_table().broken]


def test_an_installed_part_joins_the_table(site: Path) -> None:
    lay_out(site, {"flat": "FlatConfig"})
    named = CurriculumConfig.model_validate(
        {"preset": "dscl", "weigher": {"name": "flat", "knobs": {"level": 3.0}}}
    )
    weigher = build(resolve(named, dataset_subtasks=COMPONENTS)).weigher
    assert weigher.weights(empty(1, 1), np.ones((1, 1), dtype=bool), version=0)[0, 0] == 3.0
    wrong = CurriculumConfig.model_validate(
        {"preset": "dscl", "weigher": {"name": "flat", "knobs": {"height": 3.0}}}
    )
    with pytest.raises(ConfigFault, match="known: level"):
        resolve(wrong, dataset_subtasks=COMPONENTS)
    assert _broken() == []


@pytest.mark.parametrize(
    ("more", "detail"),
    [
        ("Bad = 3", "3 is no config class of a weigher, allocator, gate, ..."),
        ("class Bad: pass", "is no config class"),
        ("class Bad(PartConfig): name = 'bad'", "is no config class"),
        ("class Bad(WeigherConfig):\n  def build(self, context): ...", "Bad has no `name`"),
        ("class Bad(WeigherConfig):\n  name = 'bad'", "Bad lacks build"),
        ("class Bad(FlatConfig):\n  name = 'bad'\n  depth: int", "knob 'depth' has no valid"),
        ("class Bad(FlatConfig):\n  name = 'bad'\n  level: float = -1.0", "positive numbers"),
        ("class Bad(FlatConfig):\n  name = 'bad'\n  level: float = 0.0", "positive numbers"),
        (
            "class Bad(FlatConfig):\n  name = 'bad'\n  def build(self, context): return 3",
            "build() gives int without refresh_ages, weights, explain",
        ),
        (
            "class Bad(FlatConfig):\n  name = 'bad'\n  def build(self, context): 1 / 0",
            "ZeroDivisionError: division by zero",
        ),
        (
            "class Thin(Flat):\n"
            "  def weights(self, stats, active_NK, *, version): return np.ones(len(active_NK))\n"
            "class Bad(FlatConfig):\n  name = 'bad'\n"
            "  def build(self, context): return Thin(1.0)",
            "weights() gives shape (2,) instead of (tasks, lanes)",
        ),
        (
            "class Mute(Flat):\n"
            "  def explain(self, stats_row, k, version): return None\n"
            "class Bad(FlatConfig):\n  name = 'bad'\n"
            "  def build(self, context): return Mute(1.0)",
            "explain() gives NoneType instead of str",
        ),
        (
            "class Bad(FlatConfig):\n  name = 'bad'\n  def filled(self, context): return None",
            "AttributeError: 'NoneType' object has no attribute 'remembers'",
        ),
        ("", "AttributeError: module 'bad_part' has no attribute 'Bad'"),
        ("import etude_nothing", "ModuleNotFoundError: No module named 'etude_nothing'"),
        ("raise SystemExit", "SystemExit: no message"),
        ("def (", "SyntaxError: invalid syntax"),
        ("class Bad(FlatConfig): name = 'uniform'", "two parts are named 'uniform'"),
    ],
)
def test_what_cannot_be_used_is_described_and_the_rest_works(
    site: Path, more: str, detail: str
) -> None:
    lay_out(site, {"flat": "FlatConfig"})
    lay_out(site, {"bad": "Bad"}, source=f"{HEAD}\n{more}\n", name="bad-part")
    ((package, entry, said),) = _broken()
    assert (package, entry) == ("bad-part", "bad")
    assert detail in said
    assert "\n" not in said
    table = part_table()
    assert "flat" in table.weighers
    assert "bad" not in table.weighers
    assert table.weighers["uniform"] in BUILT_IN


def test_of_two_packages_the_first_by_name_has_the_name(site: Path) -> None:
    lay_out(site, {"b": "FlatConfig"}, name="b-part")
    lay_out(site, {"a": "FlatConfig"}, name="a-part")
    assert part_table().weighers["flat"].__module__ == "a_part"
    assert _broken() == [("b-part", "b", "two parts are named 'flat'")]


def test_defaults_may_ask_for_another_run(site: Path) -> None:
    picky = (
        "class Picky(FlatConfig):\n  name = 'picky'\n"
        "  def build(self, context): raise KnobFault(('level',), 'needs three lanes')"
    )
    lay_out(site, {"picky": "Picky"}, source=f"{HEAD}\n{picky}\n")
    assert "picky" in part_table().weighers
    assert _broken() == []


def test_a_weigher_that_reads_features_is_not_weighed_without_any(site: Path) -> None:
    seeing = (
        "class Bound(Flat):\n  def seeing(self, features_NF): return self\n"
        "class Sees(FlatConfig):\n  name = 'sees'\n  reads_features = True\n"
        "  def build(self, context): return Bound(len(context.features) * 0.0)"
    )
    lay_out(site, {"sees": "Sees"}, source=f"{HEAD}\n{seeing}\n")
    assert part_table().weighers["sees"].reads_features


def test_the_built_in_parts_pass_the_same_trial() -> None:
    for part in BUILT_IN:
        assert usable(part) is part
