"""Announced weights lie below the configured roots, whichever call announces them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from pydantic import ValidationError

from etude_proto.v1 import AckReceipt
from etude_sampler.embedded import RunningServer
from etude_sampler.settings import Settings
from support.sampler_app import Api, parse, problem, sampler_app

OUTSIDE = (
    "/etc/v1",
    "/weights/../etc",
    "weights/v1",
    "http://evil/v1",
    "s3://other/v1",
    "/weights",
)


async def test_only_below_the_roots(database_url: str, valkey: RunningServer) -> None:
    roots = "/weights, s3://bucket/models"
    async with sampler_app(database_url, valkey.url, weights_roots=roots) as api:
        run = await api.create_run(mode="curriculum_only", weights_uri="/weights/base")
        for uri in OUTSIDE:
            body = {"policy_version": 1, "weights_uri": uri}
            await _refuses(api, f"/v1/runs/{run.id}/policy-versions", body)
            spec = {"name": "x", "dataset_id": run.dataset_id, "weights_uri": uri}
            await _refuses(api, "/v1/runs", spec)
            ack = {"fence": 1, **body}
            await _refuses(api, "/v1/training-batches/tb_x/ack", ack)
        for version, uri in enumerate(("/weights/v1", "s3://bucket/models/v2"), start=1):
            body = {"policy_version": version, "weights_uri": uri}
            answer = await api.post(f"/v1/runs/{run.id}/policy-versions", body)
            assert parse(answer, AckReceipt).policy_version == version


async def _refuses(api: Api, path: str, body: Mapping[str, object]) -> None:
    found = problem(await api.post(path, body), 422, "payload_invalid")
    assert [item.pointer for item in found.errors] == ["/weights_uri"], body


async def test_without_roots_paths_only(valkey_api: Api) -> None:
    run = await valkey_api.create_run(mode="curriculum_only")
    path = f"/v1/runs/{run.id}/policy-versions"
    for uri in ("http://evil/v1", "s3://bucket/v1", "/a/../b", "file://host/v1"):
        await _refuses(valkey_api, path, {"policy_version": 1, "weights_uri": uri})
    for version, uri in enumerate(("/a/v1", "file:///a/v2", "v3"), start=1):
        body = {"policy_version": version, "weights_uri": uri}
        parse(await valkey_api.post(path, body), AckReceipt)


@pytest.mark.parametrize("roots", ["weights", "/a,../b", "s3://k:s@bucket"])
def test_a_root_is_a_place(roots: str) -> None:
    with pytest.raises(ValidationError):
        Settings(weights_roots=roots)
