"""Hard sampling over HTTP: a task fails, is guided, comes back; probes, parking, time travel."""

from __future__ import annotations

from pathlib import Path

from etude_proto.v1 import Aids, GateVerdict, PromptBatch, PromptItem
from etude_sampler.embedded import RunningServer
from support.archives import read, written
from support.hard_player import ANSWER, PRESET, Player, started, states
from support.replaying import replayed
from support.sampler_app import Api, query, sampler_app
from support.servers import Servers
from support.time_travel import Traveller
from support.workload import cargo, task


async def test_a_task_that_fails_is_guided_and_comes_back(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    player = await started(valkey_api, bare={5: 0.0}, guided=0.6)
    await player.round(24)
    found = await states(valkey_api, player.run)
    assert (found["hard"], found["parked"]) == (1, 0)
    seen = await valkey_api.task(
        player.run.id, next(item.task.id for item in player.served if item.task.ordinal == 5)
    )
    assert {term.lane: term.in_lane for term in seen.weights}["uniform"]
    assert seen.hard == "hard: 2 demonstrations"
    assert seen.state == "waiting"
    view = await valkey_api.view(player.run.id)
    assert view.hard is not None
    assert (view.hard.round, view.hard.num_hard, view.hard.num_parked) == (1, 1, 0)
    player.served.clear()
    for _ in range(4):
        await player.round(24)
    guided = [item for item in player.served if item.lane == "hard"]
    assert {item.task.ordinal for item in guided} == {5}
    assert [item.scaffold.level for item in guided[:2]] == [2, 1]
    for item in guided[:2]:
        assert item.scaffold.kind == "few_shot"
        assert len(item.demonstrations) >= item.scaffold.level
        assert item.self_example is not None
        assert item.task.id not in {one.task_id for one in item.demonstrations}
        assert all(one.answer.startswith("<think>") for one in item.demonstrations)
        assert all(one.origin == "policy" for one in item.demonstrations)
    bare = [item for item in player.served if item.lane not in ("hard", "probe")]
    assert all(item.scaffold.level == 0 and not item.demonstrations for item in bare)
    report = await replayed(database_url, player.run.id, redis_url=valkey.url)
    assert (report.differences, report.gaps, report.ledger.first_fault) == ([], [], None)
    assert report.verdict == "same"


async def test_tasks_that_nothing_helps_are_parked_and_tried_again(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    """Of 24 tasks one may be parked: the other, equally hopeless, goes on; nothing is lost."""
    api = valkey_api
    player = await started(api, bare={5: 0.0, 7: 0.0}, guided=0.0)
    ids: dict[int, str] = {}
    parked: list[set[int]] = []
    for _ in range(10):
        found = await states_after(player)
        ids |= {item.task.ordinal: item.task.id for item in player.served}
        seen = {at: await api.task(player.run.id, ids[at]) for at in (5, 7)}
        parked.append({at for at, view in seen.items() if view.state == "parked"})
        assert (len(parked[-1]), found["hard"]) == (found["parked"], 2 - found["parked"])
        for at in parked[-1]:
            assert not any(term.in_lane for term in seen[at].weights)
    assert max(map(len, parked)) == 1
    first = next(i for i, some in enumerate(parked) if some)
    assert first >= 2, "hard after one round, then two rounds without success at least"
    assert not parked[first] <= set.intersection(*parked[first : first + 5]), "it is back by then"
    report = await replayed(database_url, player.run.id, redis_url=valkey.url)
    assert (report.differences, report.gaps, report.ledger.first_fault) == ([], [], None)
    assert report.verdict == "same"
    kinds = query(
        database_url, "SELECT DISTINCT kind FROM decisions WHERE run_id = %s", player.run.id
    )
    assert ("move",) in kinds


async def states_after(player: Player) -> dict[str, int]:
    """States after one more round."""
    await player.round(24)
    return await states(player.api, player.run)


async def test_states_survive_rebuild_restore_and_fork(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    player = await started(valkey_api, bare={5: 0.0, 7: 0.0}, guided=0.0)
    while (found := await states_after(player))["parked"] == 0:
        assert player.version < 8
    one = Traveller(valkey_api, player.run, database_url, [0] * player.version)
    taken = await one.checkpoint()
    rebuilt = await valkey_api.post(f"/v1/runs/{player.run.id}/rebuild", {})
    assert rebuilt.status_code == 200
    assert await states(valkey_api, player.run) == found
    demonstrated = query(database_url, "SELECT count(*)::int FROM demonstrations")
    player.bare, player.guided = {}, 1.0
    for _ in range(5):
        await player.round(24)
    assert (await states(valkey_api, player.run))["hard"] == 0
    await one.restore(taken.id)
    assert await states(valkey_api, player.run) == found
    assert query(database_url, "SELECT count(*)::int FROM demonstrations") == demonstrated
    fork = await one.fork("other")
    assert await states(valkey_api, fork) == found
    for run in (player.run, fork):
        again = Player(valkey_api, run, bare={5: 0.0, 7: 0.0}, guided=1.0)
        again.version = run.policy_version if run is fork else taken.policy_version
        for _ in range(2):
            await again.round(24)
        guided = [item for item in again.served if item.lane == "hard"]
        assert guided
        assert all(item.demonstrations for item in guided)
        report = await replayed(database_url, run.id, redis_url=valkey.url)
        assert (report.differences, report.ledger.first_fault) == ([], None)
        assert report.verdict == "same"


async def test_a_probe_asks_for_the_missing_rollouts_and_is_not_trained_on(
    valkey_api: Api,
) -> None:
    """Groups of 4: 4 failures ask for a probe of 6, 8 for one of 2."""
    run = await valkey_api.create_run(num_tasks=24, curriculum=PRESET, group_size=4, seed=3)
    failing = dict.fromkeys((2, 5, 7, 11, 13, 17), 0.0)
    player = Player(valkey_api, run, bare=failing, guided=0.0)
    await train_round(player, 24)
    assert (await states(valkey_api, run))["probe"] >= 1
    probes: list[tuple[PromptItem, GateVerdict]] = []
    for _ in range(3):
        probes += await train_round(player, 24)
    assert probes
    for item, gate in probes:
        assert item.task.ordinal in failing
        assert item.num_rollouts in (2, 6)
        assert not item.train
        assert item.scaffold.level == 0
        assert gate is GateVerdict.PROBE
    assert (await states(valkey_api, run))["hard"] >= 3


async def train_round(player: Player, num_tasks: int) -> list[tuple[PromptItem, GateVerdict]]:
    """A round of a run that trains; its probes with their verdicts."""
    api, done, found = player.api, 0, []
    while done < num_tasks:
        batch = await api.lease(player.run.id, min(8, num_tasks - done))
        receipt = await api.reported(batch, player.report(batch))
        done += len(batch.items)
        verdicts = {one.task_id: one.gate for one in receipt.groups}
        found += [(i, verdicts[i.task.id]) for i in batch.items if i.lane == "probe"]
    some = await api.lease(player.run.id, 8)
    assert some.lease is not None
    for item in some.items:
        if item.task.ordinal in player.bare or not item.train:
            await api.reported(some, player.report(some.model_copy(update={"items": [item]})))
        else:
            body = cargo(some.lease.fence, item.task.id, version=some.policy_version)
            await api.reported(some, body)
    player.version += 1
    await api.acked(await api.train(player.run.id), player.version)
    return found


async def test_a_repeated_call_shows_the_same_demonstrations(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    """Whatever was reported, or folded, meanwhile; on a replica that never saw the first call."""
    player = await started(valkey_api, bare={5: 0.0}, guided=0.0)
    await player.round(24)
    await player.round(24)
    for attempt in range(20):
        key = f"again-{attempt}"
        first = await valkey_api.try_lease(player.run.id, 8, key=key)
        batch = PromptBatch.model_validate_json(first.content)
        if any(item.demonstrations for item in batch.items):
            break
        await valkey_api.reported(batch, player.report(batch))
    assert any(item.demonstrations for item in batch.items)
    await player.round(16)
    async with sampler_app(database_url, valkey.url) as other:
        repeated = await other.try_lease(player.run.id, 8, key=key)
    again = PromptBatch.model_validate_json(repeated.content)

    def shown(found: PromptBatch) -> dict[str, PromptItem]:
        return {item.task.id: item for item in found.items}

    assert shown(again) == shown(batch)


async def test_demonstrations_that_come_with_tasks(valkey_api: Api) -> None:
    """They are there from the first version on, with the gold to check them by."""
    tasks = [task(number) for number in range(24)]
    aided = [
        one.model_copy(update={"aids": Aids(demonstration=ANSWER.format(number))})
        if number in (1, 2, 3)
        else one
        for number, one in enumerate(tasks)
    ]
    dataset_id = await valkey_api.create_dataset("aided", tasks=aided)
    run = await valkey_api.create_run(
        dataset_id=dataset_id, mode="curriculum_only", curriculum=PRESET, group_size=10, seed=3
    )
    player = Player(valkey_api, run, bare=dict.fromkeys(range(24), 0.0), guided=0.0)
    for _ in range(2):
        await player.round(24)
    guided = [item for item in player.served if item.scaffold.level]
    assert guided
    for item in guided:
        assert {one.origin for one in item.demonstrations} == {"imported"}
        assert all(one.reference is not None for one in item.demonstrations)
        assert item.task.id not in {one.task_id for one in item.demonstrations}


async def test_without_demonstrations_a_hard_task_is_served_bare(valkey_api: Api) -> None:
    player = await started(valkey_api, bare=dict.fromkeys(range(24), 0.0), guided=0.0)
    for _ in range(2):
        await player.round(24)
    assert {item.lane for item in player.served} >= {"hard"}
    assert all(item.scaffold.level == 0 for item in player.served)


async def test_a_report_on_a_replica_that_has_not_heard_of_the_version(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    """The pace is that of the version which the report's transaction sees, whoever takes it."""
    first = valkey_api
    player = await started(first, bare={5: 0.0, 7: 0.0}, guided=0.0)
    async with sampler_app(database_url, valkey.url) as second:
        there = Player(second, player.run, bare=player.bare, guided=0.0)
        for _ in range(4):
            batch = await second.lease(player.run.id, 6, worker="there")
            for _ in range(3):
                await player.step(6)
            await second.view(player.run.id)
            player.version += 1
            await first.announced(player.run.id, player.version)
            await second.reported(batch, there.report(batch))
    report = await replayed(database_url, player.run.id, redis_url=valkey.url)
    assert (report.differences, report.gaps, report.ledger.first_fault) == ([], [], None)
    assert report.verdict == "same"


async def test_an_archive_holds_states_and_demonstrations(
    valkey_api: Api,
    database_url: str,
    valkey: RunningServer,
    servers: Servers,
    tmp_path: Path,
) -> None:
    player = await started(valkey_api, bare={5: 0.0, 7: 0.0}, guided=0.0)
    for _ in range(2):
        await player.round(24)
    found = await states(valkey_api, player.run)
    kept = "SELECT apply_seq, ordinal, policy_version, answer FROM demonstrations ORDER BY 1"
    shown = query(database_url, kept)
    assert found["hard"] == 2
    assert len(shown) > 20
    await written(database_url, player.run.id, tmp_path / "run.tar")
    with servers.database() as other:
        again = await read(other, valkey, tmp_path / "run.tar", name="copy")
        assert query(other, kept) == shown
        async with sampler_app(other, valkey.url) as api:
            await api.loaded(again.run_id)
            run = player.run.model_copy(update={"id": again.run_id})
            assert await states(api, run) == found
            there = Player(api, run, bare=player.bare, guided=1.0)
            there.version = player.version
            for _ in range(2):
                await there.round(24)
            guided = [item for item in there.served if item.lane == "hard"]
            assert guided
            assert all(item.demonstrations for item in guided)
