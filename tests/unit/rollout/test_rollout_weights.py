"""Loading published weights: where they may lie, what proves the load, which are the newest."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from etude_rollout.engines import WeightsRefused
from etude_rollout.engines.transformers_engine import TransformersEngine
from etude_rollout.weights.channels import FromDisk
from etude_rollout.weights.disk import DiskChannel, WeightsMissing
from etude_rollout.weights.loader import Announced, LoadFacts, WeightLoader
from etude_rollout.weights.parity import ParityError, largest_gap, read_parity
from etude_rollout.weights.staging import BACKEND, Stage, check_shapes
from support.rollout_parts import publish, shift


class Loads:
    """A loader on a fresh engine, and what it loaded."""

    def __init__(self, engine: TransformersEngine, root: Path, *, required: bool = True) -> None:
        self.engine = engine
        self.facts: list[LoadFacts] = []
        self.loader = WeightLoader(
            engine,
            FromDisk(DiskChannel(root)),
            parity_threshold=1e-3,
            require_parity=required,
            on_load=self.facts.append,
        )

    @property
    def versions(self) -> list[int]:
        return [facts.policy_version for facts in self.facts]


@pytest.fixture
async def loads(policy_dir: Path, tmp_path: Path) -> AsyncIterator[Loads]:
    engine = await TransformersEngine.open(policy_dir, num_threads=1)
    yield Loads(engine, tmp_path)
    await engine.close()


@pytest.mark.parametrize("form", ["relative", "absolute", "uri"])
def test_three_ways_to_name_a_directory(tmp_path: Path, form: str) -> None:
    directory = tmp_path / "run a" / "v000001-b"
    directory.mkdir(parents=True)
    uri = {
        "relative": "run a/v000001-b",
        "absolute": str(directory),
        "uri": directory.as_uri(),
    }[form]
    assert DiskChannel(tmp_path).resolve(uri) == directory


@pytest.mark.parametrize(
    "uri", [".", "", "..", "../other", "a/../..", "/etc", "http://host/v1", "file://host/v1"]
)
def test_nothing_is_read_elsewhere(tmp_path: Path, uri: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "other").mkdir()
    with pytest.raises(WeightsRefused):
        DiskChannel(root).resolve(uri)


def test_a_link_does_not_lead_out(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    root.mkdir()
    other.mkdir()
    (root / "link").symlink_to(other)
    with pytest.raises(WeightsRefused, match="below"):
        DiskChannel(root).resolve("link")


def test_what_was_pruned_is_missing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("gone", "file"):
        with pytest.raises(WeightsMissing):
            DiskChannel(tmp_path).resolve(name)


def test_gaps() -> None:
    assert largest_gap([[-1.0, -2.0]], [[-1.5, -2.0]]) == 0.5
    assert largest_gap([[]], [[]]) == 0.0
    assert math.isinf(largest_gap([[-1.0]], [[math.nan]]))
    assert math.isinf(largest_gap([[-1.0]], [[-1.0, -1.0]]))


async def test_a_load_is_proved(loads: Loads, policy_dir: Path, tmp_path: Path) -> None:
    publish(policy_dir, tmp_path / "v000001-b", version=1, change=shift("proj"))
    await loads.loader.ensure(Announced(5, 1, "v000001-b"))
    (facts,) = loads.facts
    assert facts.policy_version == 1
    assert facts.parity_gap is not None
    assert facts.parity_gap < 1e-4
    assert loads.engine.version == 1


async def test_weights_are_loaded_once(loads: Loads, policy_dir: Path, tmp_path: Path) -> None:
    publish(policy_dir, tmp_path / "v1", version=1)
    await loads.loader.ensure(Announced(5, 1, "v1"))
    await loads.loader.ensure(Announced(6, 1, "v1"))
    assert loads.versions == [1]


async def test_an_older_lease_does_not_bring_older_weights_back(
    loads: Loads, policy_dir: Path, tmp_path: Path
) -> None:
    for version in (1, 2):
        publish(policy_dir, tmp_path / f"v{version}", version=version)
    await loads.loader.ensure(Announced(9, 2, "v2"))
    await loads.loader.ensure(Announced(8, 1, "v1"))
    assert loads.versions == [2]
    assert loads.engine.version == 2


async def test_a_restored_run_brings_older_weights_back(
    loads: Loads, policy_dir: Path, tmp_path: Path
) -> None:
    for version in (1, 2):
        publish(policy_dir, tmp_path / f"v{version}", version=version)
    await loads.loader.ensure(Announced(9, 2, "v2"))
    await loads.loader.ensure(Announced(10, 1, "v1"))
    assert loads.versions == [2, 1]
    assert loads.engine.version == 1


async def test_disagreement_stops_the_worker(
    loads: Loads, policy_dir: Path, tmp_path: Path
) -> None:
    publish(policy_dir, tmp_path / "v1", version=1, parity_offset=0.01)
    for fence in (1, 2):  # it is not taken for loaded
        with pytest.raises(ParityError, match=r"differ .* by 0\.01"):
            await loads.loader.ensure(Announced(fence, 1, "v1"))
    assert loads.facts[0].parity_gap == pytest.approx(0.01, abs=1e-4)


async def test_trained_weights_must_bring_probes(
    loads: Loads, policy_dir: Path, tmp_path: Path
) -> None:
    (publish(policy_dir, tmp_path / "v1", version=1) / "parity.json").unlink()
    with pytest.raises(WeightsRefused, match=r"no parity\.json"):
        await loads.loader.ensure(Announced(1, 1, "v1"))
    await Loads(loads.engine, tmp_path, required=False).loader.ensure(Announced(1, 1, "v1"))
    assert loads.engine.version == 1


async def test_the_first_weights_need_none(loads: Loads, policy_dir: Path, tmp_path: Path) -> None:
    (publish(policy_dir, tmp_path / "v0", version=0) / "parity.json").unlink()
    await loads.loader.ensure(Announced(1, 0, "v0"))
    assert loads.facts == [LoadFacts(0, loads.facts[0].seconds, None, "disk")]


async def test_a_directory_of_another_version_is_refused(
    loads: Loads, policy_dir: Path, tmp_path: Path
) -> None:
    publish(policy_dir, tmp_path / "v1", version=7)
    with pytest.raises(WeightsRefused, match="version 7, not 1"):
        await loads.loader.ensure(Announced(1, 1, "v1"))


async def test_without_a_uri_the_version_is_a_label(loads: Loads) -> None:
    await loads.loader.ensure(Announced(1, 4, None))
    assert loads.engine.version == 4
    assert loads.facts == []


@pytest.mark.parametrize(
    "change",
    [
        {"logprobs": []},
        {"logprobs": [[-1.0]]},
        {"token_ids": [[5]], "logprobs": [[]]},
        {"surprise": 1},
    ],
)
def test_malformed_probes_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    good = {"policy_version": 1, "token_ids": [[5, 6, 7]], "logprobs": [[-1.0, -2.0]]}
    (tmp_path / "parity.json").write_text(json.dumps(good | change), encoding="utf-8")
    with pytest.raises(WeightsRefused):
        read_parity(tmp_path)
    (tmp_path / "parity.json").write_text(json.dumps(good), encoding="utf-8")
    assert read_parity(tmp_path) is not None


def test_shapes_must_be_those_that_are_served() -> None:
    served = {"a": (2, 3), "lm_head.weight": (4, 3)}
    check_shapes({"a": (2, 3)}, served=served, tied="lm_head.weight")
    check_shapes(dict(served), served={"a": (2, 3)}, tied="lm_head.weight")
    for given, tied in (
        ({"a": (2, 3)}, None),
        ({"a": (2, 3), "b": (1,)}, "lm_head.weight"),
        ({"a": (3, 2)}, "lm_head.weight"),
        ({"a": (2, 3), "lm_head.weight": (5, 3)}, "lm_head.weight"),
    ):
        with pytest.raises(WeightsRefused):
            check_shapes(given, served=served, tied=tied)


def test_a_stage_holds_whole_directories_or_nothing(policy_dir: Path, tmp_path: Path) -> None:
    publish(policy_dir, tmp_path / "v1", version=1)
    (tmp_path / "empty").mkdir()
    stage = Stage(tmp_path, policy_dir)
    assert stage.take() == []
    stage.receive("v1")
    for bad in ("empty", "gone", "..", "/etc"):
        stage.receive("v1")
        with pytest.raises(WeightsRefused):
            stage.receive(bad)
        assert stage.take() == []
    stage.receive(str(tmp_path / "v1"))
    assert {name for name, _ in stage.take()} >= {"model.embed_tokens.weight"}
    assert stage.take() == []


def test_the_plug_in_is_importable_without_vllm() -> None:
    from etude_rollout.weights import vllm_plugin

    assert callable(vllm_plugin.register)
    assert BACKEND == "etude"
