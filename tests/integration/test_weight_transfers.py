"""Weights from process to process over gloo: the trainer's sender, and what an engine receives."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from etude_proto.v1.weights import Transfer, TransferBackend, TransferRequest
from etude_rollout.engines import WeightsRefused
from etude_rollout.weights.receiving import receive
from etude_rollout.weights.staging import Stage
from etude_trainer.errors import ConfigError
from etude_trainer.weights.sending import Sender, SenderOptions, TransferRefused
from support.waiting import wait_for

CPU = torch.device("cpu")
GLOO = TransferRequest(backend=TransferBackend.GLOO, world_size=1)
NAME = "v000003-lease_a"


def tensors(seed: int) -> dict[str, torch.Tensor]:
    """A small model's weights, of several types and shapes."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "model.embed.weight": torch.randn((50, 8), generator=generator),
        "model.norm.weight": torch.randn(8, generator=generator).bfloat16(),
        "model.scale": torch.randn((), generator=generator),
        "lm_head.weight": torch.randn((50, 8), generator=generator),
    }


def published(folder: Path, name: str = NAME, *, seed: int = 3) -> Path:
    directory = folder / name
    directory.mkdir(parents=True)
    save_file(tensors(seed), directory / "model.safetensors")
    parity = {"policy_version": 3, "token_ids": [[1, 2]], "logprobs": [[-1.0]]}
    (directory / "parity.json").write_text(json.dumps(parity), encoding="utf-8")
    (directory / "config.json").write_text("{}", encoding="utf-8")
    return directory


def offering(folder: Path, *, timeout_s: float = 10.0) -> Sender:
    sender = Sender(SenderOptions(TransferBackend.GLOO, "127.0.0.1", 0, timeout_s))
    sender.open(folder, CPU)
    return sender


@pytest.fixture
def sender(tmp_path: Path) -> Iterator[Sender]:
    published(tmp_path)
    opened = offering(tmp_path)
    yield opened
    opened.close()


def ended(sender: Sender, how: str, num: int = 1) -> None:
    wait_for(lambda: sender.num_ended[how] == num, what=f"{num} transfers {how}", timeout_s=20)


def test_what_arrives_is_what_was_published(sender: Sender) -> None:
    transfer = sender.start(NAME, GLOO)
    assert (transfer.policy_version, transfer.world_size) == (3, 2)
    assert transfer.probes is not None
    got = receive(transfer, rank=1, device=CPU)
    want = tensors(3)
    assert got.keys() == want.keys()
    for name, tensor in want.items():
        assert got[name].dtype == tensor.dtype
        assert torch.equal(got[name], tensor)
    ended(sender, "sent")


def test_an_engine_of_several_processes_and_several_engines_at_once(sender: Sender) -> None:
    transfers = [sender.start(NAME, GLOO.model_copy(update={"world_size": 2})) for _ in "ab"]
    got: list[dict[str, torch.Tensor]] = []
    threads = [
        threading.Thread(target=lambda t=t, r=r: got.append(receive(t, rank=r, device=CPU)))
        for t in transfers
        for r in (1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(got) == 4
    assert all(torch.equal(one["lm_head.weight"], tensors(3)["lm_head.weight"]) for one in got)
    ended(sender, "sent", 2)


def test_an_engine_that_never_comes_costs_a_thread_and_its_time(tmp_path: Path) -> None:
    published(tmp_path)
    sender = offering(tmp_path, timeout_s=0.5)
    sender.start(NAME, GLOO)
    ended(sender, "broken")
    receive(sender.start(NAME, GLOO), rank=1, device=CPU)
    ended(sender, "sent")
    sender.close()


def test_nothing_stays_in_the_store(sender: Sender) -> None:
    assert sender._store is not None
    before = sender._store.num_keys()
    for _ in range(3):
        receive(sender.start(NAME, GLOO), rank=1, device=CPU)
    ended(sender, "sent", 3)
    assert sender._store.num_keys() == before


@pytest.mark.parametrize(
    ("name", "request_", "status"),
    [
        ("v000009-lease_a", GLOO, 404),
        ("../v000003-lease_a", GLOO, 404),
        ("..", GLOO, 404),
        (NAME, TransferRequest(backend=TransferBackend.NCCL, world_size=1), 409),
    ],
)
def test_what_is_not_offered(
    sender: Sender, name: str, request_: TransferRequest, status: int
) -> None:
    with pytest.raises(TransferRefused) as refused:
        sender.start(name, request_)
    assert refused.value.status == status


def test_nothing_is_offered_before_the_run_is_known() -> None:
    sender = Sender(SenderOptions(TransferBackend.GLOO, "127.0.0.1", 0, 1.0))
    with pytest.raises(TransferRefused, match="not begun"):
        sender.start(NAME, GLOO)


def test_what_cannot_be_offered_is_an_error_at_the_start(tmp_path: Path, sender: Sender) -> None:
    nccl = Sender(SenderOptions(TransferBackend.NCCL, "127.0.0.1", 0, 1.0))
    with pytest.raises(ConfigError, match="nccl needs a CUDA device"):
        nccl.open(tmp_path, CPU)
    port = sender.start(NAME, GLOO).master_port
    taken = Sender(SenderOptions(TransferBackend.GLOO, "127.0.0.1", port, 1.0))
    with pytest.raises(ConfigError, match="cannot listen"):
        taken.open(tmp_path, CPU)


def test_an_adapter_is_not_sent(sender: Sender, tmp_path: Path) -> None:
    directory = published(tmp_path, "v000004-lease_b")
    (directory / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(TransferRefused, match="not one file"):
        sender.start("v000004-lease_b", GLOO)


def test_a_trainer_that_died_leaves_the_stage_empty(sender: Sender, tmp_path: Path) -> None:
    """Nobody is at the other end any more: an error in time, and the next transfer works."""
    stage = Stage(tmp_path, published(tmp_path / "served", "model"))
    transfer = sender.start(NAME, GLOO)
    dead = transfer.model_copy(update={"session": "transfer_nobody", "timeout_s": 0.5})
    with pytest.raises(WeightsRefused, match="broke after 0 of 4"):
        stage.receive_transfer(dead, rank=1, device=CPU)
    assert stage.take() == []
    stage.receive_transfer(transfer, rank=1, device=CPU)
    assert len(stage.take()) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "model.other"}, "missing"),
        ({"shape": [8, 50]}, "shape"),
        ({"shape": [-1]}, "shape"),
        ({"dtype": "float128"}, "unknown type"),
        ({"name": "model.norm.weight"}, "named twice"),
    ],
)
def test_a_wrong_list_is_refused_before_anything_is_received(
    sender: Sender, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    stage = Stage(tmp_path, published(tmp_path / "served", "model"))
    transfer = sender.start(NAME, GLOO)
    specs = [
        spec.model_copy(update=change) if spec.name == "model.embed.weight" else spec
        for spec in transfer.tensors
    ]
    wrong = Transfer.model_validate(
        transfer.model_dump() | {"tensors": [spec.model_dump() for spec in specs]}
    )
    with pytest.raises(WeightsRefused, match=message):
        stage.receive_transfer(wrong, rank=1, device=CPU)
    assert stage.take() == []
    stage.receive_transfer(transfer, rank=1, device=CPU)
