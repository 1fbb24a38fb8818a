"""Weights on real vLLM: every channel that a CPU can run, and everything that can go wrong."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from etude_proto.v1.weights import Transfer
from etude_rollout.engines import EngineUnavailable, Sampling, WeightsRefused
from etude_rollout.engines.vllm_engine import VllmEngine
from etude_rollout.weights.disk import WeightsMissing
from etude_rollout.weights.loader import Announced, LoadFacts
from support.rollout_parts import publish, requests, shift
from support.tree import ROOT
from support.vllm_bench import MAX_RANK, VllmBench, publish_adapter

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]
KINDS = ("norm", "embed", "q_proj", "k_proj", "v_proj", "o_proj", "gate", "up_proj", "down_proj")
PROBE = list(range(5, 45))


def served(bench: VllmBench) -> list[float]:
    """What the engine computes now."""
    return bench.run(bench.engine.score_logprobs([PROBE]))[0]


def named(bench: VllmBench, number: int, *, version: int = 1, change: str = "proj") -> Path:
    """Publish changed weights under the next name."""
    out = bench.root / f"v{version:06d}-lease_{number}"
    return publish(bench.model_dir, out, version=version, change=shift(change, seed=number))


def test_every_kind_of_weight_arrives_from_the_disk(bench: VllmBench) -> None:
    """The loader itself compares with the trainer's log-probabilities, to 1e-4."""
    loads: list[LoadFacts] = []
    loader = bench.loader(loads)
    before = served(bench)
    for number, kind in enumerate(KINDS):
        uri = named(bench, number, version=number + 1, change=kind).name
        bench.run(loader.ensure(Announced(number, number + 1, uri)))
        after = served(bench)
        assert max(abs(a - b) for a, b in zip(before, after, strict=True)) > 1e-3, kind
        before = after
    assert [load.channel for load in loads] == ["disk"] * len(KINDS)
    assert bench.engine.version == len(KINDS)


def test_gloo_brings_the_same_and_the_disk_stands_behind_it(bench: VllmBench) -> None:
    async def story() -> None:
        async with bench.wire(loads) as (loader, sender):
            for number in (20, 21):
                uri = named(bench, number, version=number).name
                await loader.ensure(Announced(number, number, uri))
            sender.close()  # a worker that comes late finds the trainer gone
            uri = named(bench, 22, version=22).name
            await loader.ensure(Announced(22, 22, uri))

    loads: list[LoadFacts] = []
    bench.run(story())
    assert [load.channel for load in loads] == ["gloo", "gloo", "disk"]
    assert bench.run(bench.engine.holds(22))


def test_what_is_refused_leaves_the_old_weights_serving(bench: VllmBench) -> None:
    before = served(bench)
    missing, shaped, elsewhere = (named(bench, number) for number in (30, 31, 32))
    for directory, change in ((missing, "name"), (shaped, "shape")):
        tensors = load_file(directory / "model.safetensors")
        name = "model.layers.1.mlp.up_proj.weight"
        tensor = tensors.pop(name)
        tensors[name if change == "shape" else f"{name}.other"] = tensor.T.contiguous()
        save_file(tensors, directory / "model.safetensors")
        with pytest.raises(WeightsRefused, match=r"up_proj"):
            bench.run(bench.engine.load_weights(directory, version=31))
        assert served(bench) == before
    for path in (bench.root.parent / "tiny", bench.root / "gone", bench.root):
        with pytest.raises(WeightsRefused):
            bench.run(bench.engine.load_weights(path, version=31))
    with pytest.raises(WeightsMissing):
        bench.run(bench.loader([]).ensure(Announced(1, 31, "v000031-lease_gone")))
    assert served(bench) == before
    bench.run(bench.loader([]).ensure(Announced(1, 1, elsewhere.name)))
    assert served(bench) != before


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_trainer_that_ends_in_the_middle_leaves_the_old_weights_serving(
    bench: VllmBench, how: str
) -> None:
    before = served(bench)
    number = {"kill": 40, "stop": 41}[how]
    directory = named(bench, number, version=number)
    script = ROOT / "tests" / "support" / "dying_trainer.py"
    command = [sys.executable, str(script), str(directory), how, "5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=dict(os.environ)) as trainer:
        assert trainer.stdout is not None
        try:
            transfer = Transfer.model_validate_json(trainer.stdout.readline())
            with pytest.raises(WeightsRefused, match="after 5 of"):
                bench.run(bench.engine.receive_weights(transfer, version=number))
        finally:
            trainer.kill()
    assert served(bench) == before
    bench.run(bench.loader([]).ensure(Announced(1, number, directory.name)))
    assert served(bench) != before


def test_every_token_says_which_weights_sampled_it(bench: VllmBench) -> None:
    """Weights change while completions are made. Each token's log-probability is the one that the
    version it names gives it, after everything before it."""
    old, new = named(bench, 50, version=50), named(bench, 51, version=51)
    (request,) = requests(bench.model_dir, 1, num_completions=12)
    request = replace(request, sampling=Sampling(max_new_tokens=900))

    async def story() -> dict[int, float]:
        engine = bench.engine
        for seed in range(5):  # until weights change in the middle: engines are quick or slow
            await engine.load_weights(old, version=50)
            making = asyncio.create_task(engine.generate(replace(request, seed=seed)))
            await engine.generate(replace(request, num_completions=1, sampling=Sampling(2)))
            await engine.load_weights(new, version=51)
            made = await making
            mixed = [one for one in made if {*one.versions} == {50, 51}]
            if mixed:
                break
        assert mixed, [{*one.versions} for one in made]
        assert all(list(one.versions) == sorted(one.versions) for one in made)
        made = tuple(mixed[:4])
        by_new = await bench.gaps(request, made)
        await engine.load_weights(old, version=50)
        by_old = await bench.gaps(request, made)
        assert by_new[50] > 0.1  # the other weights are told apart by this
        return {50: by_old[50], 51: by_new[51]}

    gaps = bench.run(story())
    assert max(gaps.values()) < 1e-4, gaps


def test_stops_and_likely_logprobs_mean_what_they_mean_elsewhere(bench: VllmBench) -> None:
    (request,) = requests(bench.model_dir, 1, num_completions=6, sampling=Sampling(30))
    free = bench.run(bench.engine.generate(request))
    text = next(one.text for one in free if len(one.text) > 12)[6:9]
    sampling = replace(request.sampling, stop=(text,), num_top_logprobs=3)
    stopped = bench.run(bench.engine.generate(replace(request, sampling=sampling)))
    assert any(text in one.text for one in stopped)
    for one, whole in zip(stopped, free, strict=True):
        assert one.token_ids == whole.token_ids[: len(one.token_ids)]
        assert [len(top) for top in one.top_logprobs] == [3] * len(one.token_ids)
        for top, own in zip(one.top_logprobs, one.logprobs, strict=True):
            assert own <= max(top) + 1e-6
    late = replace(request, sampling=Sampling(900), timeout_s=0.2)
    made = bench.run(bench.engine.generate(late))
    assert "timeout" in {one.finish_reason for one in made}


def test_adapters_are_loaded_beside_each_other(bench: VllmBench) -> None:
    async def story() -> None:
        engine = bench.engine
        await loader.ensure(Announced(60, 0, base.name))
        paths = [
            publish_adapter(bench.model_dir, bench.root / f"v{n:06d}-lease_l", version=n, seed=n)
            for n in (61, 62)
        ]
        await loader.ensure(Announced(61, 61, paths[0].name))
        making = asyncio.create_task(engine.generate(request))
        await engine.generate(replace(request, num_completions=1, sampling=Sampling(40)))
        await loader.ensure(Announced(62, 62, paths[1].name))
        under_way = await making
        after = await engine.generate(request)
        assert {version for one in under_way for version in one.versions} == {61}
        assert {version for one in after for version in one.versions} == {62}
        assert (await bench.gaps(request, under_way))[61] > 0.1
        assert (await bench.gaps(request, after))[62] < 1e-4
        assert await engine.holds(62)
        assert not await engine.holds(61)

    loads: list[LoadFacts] = []
    loader = bench.loader(loads)
    base = publish(bench.model_dir, bench.root / "v000000-lease_l", version=0)
    (request,) = requests(bench.model_dir, 1, num_completions=4, sampling=Sampling(400))
    bench.run(story())
    assert [load.channel for load in loads] == ["disk", "lora", "lora"]


def test_adapters_that_do_not_fit_are_refused(bench: VllmBench) -> None:
    before = served(bench)
    fat = publish_adapter(
        bench.model_dir, bench.root / "v000070-fat", version=70, rank=MAX_RANK * 2
    )
    with pytest.raises(WeightsRefused, match="rank 16"):
        bench.run(bench.engine.load_weights(fat, version=70))
    odd = publish_adapter(bench.model_dir, bench.root / "v000070-odd", version=70)
    tensors = load_file(odd / "adapter_model.safetensors")
    name = sorted(tensors)[0]
    tensors[name] = tensors[name].T.contiguous()
    save_file(tensors, odd / "adapter_model.safetensors")
    with pytest.raises(WeightsRefused, match="has shape"):
        bench.run(bench.engine.load_weights(odd, version=70))
    config = json.loads((odd / "adapter_config.json").read_text(encoding="utf-8"))
    (odd / "adapter_config.json").write_text(json.dumps(config | {"r": None}), encoding="utf-8")
    with pytest.raises(WeightsRefused, match="adapter_config"):
        bench.run(bench.engine.load_weights(odd, version=70))
    assert served(bench) == before


def test_a_server_that_was_restarted_takes_weights_again(bench: VllmBench) -> None:
    """As after its start: it was told no root, and its weights are nobody's."""
    api = bench.engine._api
    directory = named(bench, 80, version=80)
    bench.run(bench.engine.load_weights(directory, version=80))
    bench.run(api._post("/shutdown_weight_transfer_engine", None))
    bench.run(api._post("/update_weight_version", {"new_version": "default"}))
    (request,) = requests(bench.model_dir, 1, sampling=Sampling(4))
    with pytest.raises(EngineUnavailable, match="did not load"):
        bench.run(bench.engine.generate(request))
    assert not bench.run(bench.engine.holds(80))
    bench.run(bench.loader([]).ensure(Announced(1, 80, directory.name)))
    assert {*bench.run(bench.engine.generate(request))[0].versions} == {80}


def test_a_worker_that_comes_again_takes_the_server_over(bench: VllmBench) -> None:
    """It died in the middle of an update, with generation frozen and an adapter loaded."""

    async def story() -> None:
        api = bench.engine._api
        await api.start_update()
        await api.pause()
        url = api.url
        again = await VllmEngine.open(url, weights_root=bench.root, dtype="float32")
        assert again.has_spans
        assert not await again.holds(81)
        await again.load_weights(directory, version=81)
        (made,) = await again.generate(replace(request, num_completions=1))
        assert {*made.versions} == {81}
        assert [model.parent for model in await api.models()] == [None]
        await again.close()

    directory = named(bench, 81, version=81)
    (request,) = requests(bench.model_dir, 1, sampling=Sampling(10))
    bench.run(story())


def test_two_workers_on_one_server_mix_nothing_up(bench: VllmBench) -> None:
    """The second closes the first one's update and loads its own: the first swaps nothing in, gives
    no old weights a new name, samples nothing, and is heard again when it comes again."""

    async def story() -> None:
        ours = bench.engine
        await ours.load_weights(old, version=90)
        await ours._weights._start_update()
        await ours._api.update({"path": str(new)})
        other = await VllmEngine.open(ours._api.url, weights_root=bench.root, dtype="float32")
        await other.load_weights(others, version=92)
        with pytest.raises(WeightsRefused, match="another worker"):
            await ours._weights._finish_update(91)
        await ours._weights._start_update()
        await ours._api.update({"path": str(new)})
        await other._weights._start_update()
        with pytest.raises(WeightsRefused, match="another worker"):
            await ours._weights._finish_update(91)
        assert ours._weights.broken is None
        assert await other.holds(92)
        (made,) = await other.generate(request)
        assert (await bench.gaps(request, (made,)))[92] < 1e-4
        with pytest.raises(EngineUnavailable, match="did not load"):
            await ours.generate(request)
        await other.close()
        await ours.load_weights(new, version=91)
        assert {*(await ours.generate(request))[0].versions} == {91}

    old, new, others = (named(bench, number, version=number) for number in (90, 91, 92))
    (request,) = requests(bench.model_dir, 1, num_completions=1, sampling=Sampling(10))
    bench.run(story())
