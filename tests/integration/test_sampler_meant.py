"""Reports that no client can mean are refused; what a report leaves out is what the lease says."""

from __future__ import annotations

import json

import pytest

from etude_proto.v1 import Receipt
from support.sampler_app import Api, parse, problem, query
from support.workload import report_of


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"min_policy_version": 0, "max_policy_version": 1000}, "newest announced one is 0"),
        ({"min_policy_version": 1, "max_policy_version": 0}, "newer than the newest"),
        ({"components": {"formt": 1.0}}, "none is a component of this run"),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    valkey_api: Api, database_url: str, change: dict[str, object], word: str
) -> None:
    """Versions that nobody announced, a misspelt component: taken, they would count for nothing."""
    api = valkey_api
    run = await api.create_run()
    batch = await api.lease(run.id, 1)
    assert batch.lease is not None
    document = report_of(batch).model_dump(mode="json")
    outcomes = document["groups"][0]["attempts"][0]["outcomes"]
    document["groups"][0]["attempts"][0]["outcomes"] = [{**one, **change} for one in outcomes]
    path = f"/v1/leases/{batch.lease.id}/groups"
    found = problem(await api.post(path, json.dumps(document).encode()), 422, "payload_invalid")
    assert word in found.detail
    assert query(database_url, "SELECT count(*) FROM ledger") == [(0,)]
    assert len((await api.reported(batch)).groups) == 1


async def test_outcomes_that_name_no_version_are_of_the_lease_s(
    valkey_api: Api, database_url: str
) -> None:
    """However many versions were announced before, they are not stale."""
    api = valkey_api
    run = await api.create_run(mode="curriculum_only")
    for version in range(1, 12):
        await api.announced(run.id, version)
    batch = await api.lease(run.id, 2)
    assert batch.lease is not None
    document = report_of(batch).model_dump(mode="json")
    for group in document["groups"]:
        for outcome in group["attempts"][0]["outcomes"]:
            del outcome["min_policy_version"], outcome["max_policy_version"]
    path = f"/v1/leases/{batch.lease.id}/groups"
    receipt = parse(await api.post(path, json.dumps(document).encode()), Receipt)
    assert [group.attempts[0].verdict for group in receipt.groups] == ["applied", "applied"]
    (stored,) = {
        (str(low), str(high))
        for low, high in query(
            database_url,
            "SELECT outcomes::jsonb -> 'min_policy_version' -> 0, "
            "outcomes::jsonb -> 'max_policy_version' -> 0 FROM ledger",
        )
    }
    assert stored == ("11", "11")
