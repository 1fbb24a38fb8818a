"""The presets beside `uniform` and `dscl` over HTTP: draws, folds, explained weights."""

from __future__ import annotations

import pytest

from etude_sampler.curriculum import PRESETS
from support.sampler_app import Api
from support.workload import report_of


@pytest.mark.parametrize(
    "preset",
    ["mixed_group", "learnability", "success_band", "kimi", "cures", "vcrl", "dapo"],
)
async def test_a_run_follows_a_preset(valkey_api: Api, preset: str) -> None:
    api = valkey_api
    run = await api.create_run(num_tasks=12, mode="curriculum_only", curriculum={"preset": preset})
    assert run.resolved.preset == preset
    assert run.resolved.weigher.knobs.get("group_size", run.group_size) == run.group_size == 4
    for version in range(1, 4):
        batch = await api.lease(run.id, 6)
        assert len(batch.items) == 6
        await api.reported(batch, report_of(batch, skill=0.4))
        await api.announced(run.id, version)
    view = await api.view(run.id)
    shares = {lane.name: lane.share for lane in view.lanes}
    assert shares["uniform"] == PRESETS[preset].control_share
    assert sum(shares.values()) == pytest.approx(1.0)
    if PRESETS[preset].allocator.name == "joint":
        assert shares["format"] == pytest.approx(0.95)
    seen = await api.task(run.id, batch.items[0].task.id)
    for term in seen.weights:
        assert term.in_lane
        assert term.weight > 0
        if term.lane != "uniform":
            said = float(term.explanation.rpartition("=")[2])
            assert said == pytest.approx(term.weight, abs=1e-4)
