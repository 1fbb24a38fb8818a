"""Looking: task explorer, curriculum, history, predictions, pages; it never changes anything."""

from __future__ import annotations

import numpy as np
import pytest

from etude_proto.v1 import (
    DatasetPage,
    HistoryPage,
    PredictionsReceipt,
    RunPage,
    Split,
    TaskPage,
)
from etude_sampler.embedded import RunningServer
from support.sampler_app import Api, parse, problem, query
from support.sampler_app_redis import read_hot
from support.workload import report_of, task


async def tasks_of(api: Api, run_id: str, **query_: str | int) -> list[str]:
    """All task ids of a list, page by page."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        more = {} if cursor is None else {"cursor": cursor}
        page = parse(await api.get(f"/v1/runs/{run_id}/tasks", **{**query_, **more}), TaskPage)
        found += [item.id for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return found


async def test_the_explorer_lists_sorts_and_filters(valkey_api: Api) -> None:
    api = valkey_api
    made = [task(n, source="even" if n % 2 == 0 else "odd") for n in range(20)]
    made += [task(n, split=Split.HELD_OUT) for n in range(20, 23)]
    dataset_id = await api.create_dataset("listed", tasks=made)
    run = await api.create_run(dataset_id=dataset_id, mode="curriculum_only")
    assert run.num_tasks == 20, "what is held out is not drawn"
    everything = await tasks_of(api, run.id, limit=7)
    assert len(everything) == len(set(everything)) == 20
    assert await tasks_of(api, run.id, limit=1000) == everything
    for version in range(2):
        batch = await api.lease(run.id, 6)
        await api.reported(batch, report_of(batch, skill=0.3 + 0.4 * version))
        await api.announced(run.id, version + 1)
    views = {name: await api.task(run.id, name) for name in everything}
    ema = {n: v.statistics[0].success_ema for n, v in views.items() if v.statistics}
    hardest, easiest = [
        await tasks_of(api, run.id, order=o, limit=3) for o in ("hardest", "easiest")
    ]
    assert [ema[n] for n in hardest[: len(ema)]] == sorted(ema.values())
    assert [ema[n] for n in easiest[: len(ema)]] == sorted(ema.values(), reverse=True)
    assert set(hardest[len(ema) :]) == set(everything) - ema.keys(), "unseen ones come last"
    unseen = await tasks_of(api, run.id, order="unseen", limit=4)
    assert set(unseen[: 20 - len(ema)]) == set(everything) - ema.keys()
    stalest = await tasks_of(api, run.id, order="stalest", limit=4)
    last = [views[n].statistics[0].last_policy_version for n in stalest[: len(ema)]]
    assert last == sorted(last)
    odd = await tasks_of(api, run.id, source="odd", limit=3)
    assert odd == [name for name in everything if views[name].task.source == "odd"]
    deep = await tasks_of(api, run.id, subtask="param_value", limit=2)
    assert deep == [name for name in everything if "param_value" in views[name].task.subtasks]
    assert await tasks_of(api, run.id, subtask="juggling") == []


async def test_a_task_explains_its_weight(api: Api, redis_server: RunningServer) -> None:
    """The terms of the sum are the weight that the lanes race with."""
    run = await api.create_run(num_tasks=6, mode="curriculum_only")
    batch = await api.lease(run.id, 6)
    leased = await api.task(run.id, batch.items[0].task.id)
    assert (leased.state, {term.in_lane for term in leased.weights}) == ("leased", {False})
    engine = "vllm-0.32/bf16"
    await api.reported(batch, report_of(batch).model_copy(update={"engine": engine}))
    for version in range(1, 6):
        await api.announced(run.id, version)
    records = read_hot(redis_server.url, run.id).hashes["tasks"]
    for item in batch.items:
        view = await api.task(run.id, item.task.id)
        assert (view.state, view.task) == ("waiting", item.task)
        assert [term.lane for term in view.weights] == ["uniform", *item.task.subtasks]
        held = np.frombuffer(records[b"%d" % item.task.ordinal], dtype="<u4")[1:] / 1e6
        lanes = {name: held[i] for i, name in enumerate(run.resolved.lanes)}
        for term in view.weights:
            assert term.in_lane
            assert term.weight == lanes[term.lane]
            if term.lane != "uniform":
                said = float(term.explanation.rpartition("=")[2])
                assert said == pytest.approx(term.weight, abs=1e-4)
        (entry,) = view.recent
        assert (entry.lane, entry.engine) == (item.lane, engine)
        assert len(entry.rewards) == len(entry.successes) == 4
        assert entry.components.keys() == set(item.task.subtasks)


async def test_history_goes_on_where_its_cursor_ends(valkey_api: Api) -> None:
    api = valkey_api
    run = await api.create_run(mode="curriculum_only")
    for version in range(1, 8):
        batch = await api.lease(run.id, 2)
        await api.reported(batch)
        await api.announced(run.id, version)
    path, cursor, found = f"/v1/runs/{run.id}/history", "", []
    while True:
        more = {"cursor": cursor} if cursor else {}
        page = parse(await api.get(path, limit=3, **more), HistoryPage)
        found += [point.policy_version for point in page.items]
        if page.next_cursor is None:
            break
        cursor = page.next_cursor
    assert found == [1, 2, 3, 4, 5, 6, 7]
    point = page.items[-1]
    assert (point.num_groups, sum(point.lane_groups.values())) == (2, 2)
    assert sum(point.lane_shares.values()) == pytest.approx(1.0)


async def test_lists_of_datasets_and_runs(valkey_api: Api) -> None:
    api = valkey_api
    runs = {(await api.create_run(num_tasks=1)).id for _ in range(5)}
    for path, model, want in (("/v1/runs", RunPage, runs), ("/v1/datasets", DatasetPage, None)):
        found: list[str] = []
        cursor = ""
        while True:
            more = {"cursor": cursor} if cursor else {}
            page = parse(await api.get(path, limit=2, **more), model)
            assert isinstance(page, RunPage | DatasetPage)
            found += [item.id for item in page.items]
            if page.next_cursor is None:
                break
            cursor = page.next_cursor
        assert len(found) == len(set(found)) == 5
        assert want is None or set(found) == want
        other = "/v1/datasets" if path == "/v1/runs" else "/v1/runs"
        problem(await api.get(other, cursor=cursor), 410, "cursor_expired")
    for limit in (0, 1001, -1):
        found_ = problem(await api.get("/v1/runs", limit=limit), 422, "payload_invalid")
        assert found_.errors[0].pointer == "/query/limit"


async def test_predictions_keep_the_newest(valkey_api: Api, database_url: str) -> None:
    api = valkey_api
    run = await api.create_run(num_tasks=3)
    one, two, _ = await tasks_of(api, run.id)
    path = f"/v1/runs/{run.id}/predictions"

    async def predict(version: int, **values: float) -> int:
        predictions = [{"task_id": name, "value": value} for name, value in values.items()]
        body = {"policy_version": version, "predictions": predictions}
        return parse(await api.post(path, body), PredictionsReceipt).num_stored

    assert await predict(2, **{one: 0.25, two: 0.5}) == 2
    assert await predict(1, **{one: 0.75}) == 1
    assert (await api.task(run.id, one)).prediction == 0.25, "an older model does not overwrite"
    assert await predict(2, **{one: 1.0}) == 1
    assert (await api.task(run.id, one)).prediction == 1.0
    body = {
        "policy_version": 3,
        "predictions": [{"task_id": two, "value": 0.1}, {"task_id": "task_none", "value": 0.1}],
    }
    found = problem(await api.post(path, body), 404, "task_not_found")
    assert [item.pointer for item in found.errors] == ["/predictions/1/task_id"]
    assert (await api.task(run.id, two)).prediction == 0.5
    for value in (-0.1, 1.1, float("nan")):
        text = b'{"policy_version": 3, "predictions": [{"task_id": "%s", "value": %s}]}' % (
            two.encode(),
            repr(value).replace("nan", "NaN").encode(),
        )
        problem(await api.post(path, text), 422, "payload_invalid")
    assert query(database_url, "SELECT count(*) FROM predictions") == [(2,)]


async def test_looking_changes_nothing(api: Api, redis_server: RunningServer) -> None:
    run = await api.create_run()
    batch = await api.lease(run.id, 4)
    await api.reported(batch.model_copy(update={"items": batch.items[:2]}))
    before = read_hot(redis_server.url, run.id).without_deadlines()
    base = f"/v1/runs/{run.id}"
    paths = ["/v1/runs", "/v1/datasets", base, f"{base}/curriculum", f"{base}/history"]
    paths += [f"{base}/tasks?order={o}" for o in ("ordinal", "hardest", "unseen", "stalest")]
    paths += [
        f"{base}/tasks/{batch.items[0].task.id}",
        "/livez",
        "/readyz",
        "/startupz",
        "/metrics",
    ]
    for path in paths:
        assert (await api.get(path)).status_code == 200, path
    assert read_hot(redis_server.url, run.id).without_deadlines() == before
