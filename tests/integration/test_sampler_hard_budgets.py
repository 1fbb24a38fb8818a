"""A budget beside hard sampling, over HTTP: who gets how many rollouts."""

from __future__ import annotations

from etude_proto.v1 import PromptItem
from etude_sampler.embedded import RunningServer
from support.hard_player import PRESET, Player
from support.replaying import replayed
from support.sampler_app import Api


async def test_a_budget_divides_among_bare_tasks_only(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    """Guided tasks get the group size, probes what is missing; the rest share the rest exactly."""
    curriculum = {**PRESET, "budget": {"name": "cures", "knobs": {"high": 12}}}
    run = await valkey_api.create_run(
        num_tasks=24, mode="curriculum_only", curriculum=curriculum, group_size=4, seed=3
    )
    shares = {**dict.fromkeys((2, 5, 7, 11, 13, 17), 0.0), **dict.fromkeys(range(18, 24), 0.5)}
    player = Player(valkey_api, run, bare=shares, guided=0.0)
    seen: list[PromptItem] = []
    for _ in range(6):
        for _ in range(3):
            items = await player.step(8)
            bare = [item for item in items if item.lane not in ("hard", "probe")]
            assert sum(item.num_rollouts for item in bare) == 4 * len(bare)
            seen += items
        player.version += 1
        await valkey_api.announced(run.id, player.version)
    assert {item.num_rollouts for item in seen if item.lane == "hard"} == {4}
    probes = {(item.num_rollouts, item.train) for item in seen if item.lane == "probe"}
    assert probes
    assert all(not train and num < 10 for num, train in probes)
    assert len({item.num_rollouts for item in seen if item.lane not in ("hard", "probe")}) > 2
    report = await replayed(database_url, run.id, redis_url=valkey.url)
    assert (report.differences, report.gaps, report.ledger.first_fault) == ([], [], None)
    assert report.verdict == "same"
