"""Where component weights act, end to end: asked for in a run, obeyed by a worker, in the cargo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from transformers import AutoTokenizer

from etude_client import AsyncEtudeClient
from etude_proto.v1 import CreditSpec
from etude_rollout.models.tiny import FORMAT_TAGS
from etude_rollout.spans import FORMAT
from support.rollout_service import GROUPS, Observer, create_run, rolling_out
from support.sampler_app import Api, problem


async def test_spans_and_weights_reach_the_trainer(
    client: AsyncEtudeClient, sampler_url: str, policy_dir: Path, tmp_path: Path
) -> None:
    """A random policy writes tags at random: each of them belongs to the format."""
    credit = CreditSpec(component_weights_in="advantage", spans=True)
    observer = Observer(client, await create_run(client, credit=credit))
    async with rolling_out(policy_dir, sampler_url, tmp_path):
        await observer.until(lambda counts: counts.num_ready_groups >= GROUPS, "groups are ready")
        groups = await observer.train(1, "v1")
    tokenizer = AutoTokenizer.from_pretrained(policy_dir)
    tags = [tokenizer.convert_tokens_to_ids(tag) for tag in FORMAT_TAGS]
    num_tags = 0
    for tensors, _ in groups:
        assert tensors.spans_T is not None
        assert tensors.component_weights is not None
        assert set(tensors.component_weights) == {
            *("format", "tool_name", "param_name", "param_value")
        }
        sampled = tensors.loss_mask_T == 1
        is_tag = np.isin(tensors.tokens_T, tags) & sampled
        num_tags += int(is_tag.sum())
        assert bool((tensors.spans_T[is_tag] == FORMAT).all())
        assert not tensors.spans_T[~sampled].any()
    assert num_tags > 0


async def test_what_contradicts_the_run_is_refused_when_it_is_created(valkey_api: Api) -> None:
    api = valkey_api
    made = await api.create_run(num_tasks=4)
    assert made.credit == CreditSpec()
    body = {"name": "x", "dataset_id": made.dataset_id, "group_size": 4}
    weigh = {"credit": {"component_weights_in": "advantage"}}
    found = problem(await api.post("/v1/runs", {**body, **weigh}), 422, "payload_invalid")
    assert [one.pointer for one in found.errors] == ["/curriculum/gate/knobs/on"]
    gate = {"name": "zero_variance", "knobs": {"on": "components"}}
    fine = {**body, **weigh, "curriculum": {"preset": "dscl", "gate": gate}}
    answer = await api.post("/v1/runs", fine)
    assert answer.status_code == 201, answer.text
    blind = {**body, "mode": "curriculum_only", "credit": {"spans": True}}
    found = problem(await api.post("/v1/runs", blind), 422, "payload_invalid")
    assert [one.pointer for one in found.errors] == ["/credit/spans"]
