"""Weight publishing of `gpu.py`: seconds to write a version, and until an engine serves it.

A real vLLM serves the model; versions are written as the trainer writes them and announced to the
worker's own loader, which compares log-probabilities after each load. Channels: the shared volume,
process to process (`nccl` on CUDA, `gloo` elsewhere), a LoRA adapter.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import torch
from fastapi import FastAPI
from gpu_models import Model
from stack import free_port

from etude_proto.v1.weights import TransferBackend
from etude_rollout.engines.vllm_engine import VllmEngine
from etude_rollout.engines.vllm_server import VllmOptions
from etude_rollout.weights.channels import FromDisk, FromTrainer, WeightChannel
from etude_rollout.weights.disk import DiskChannel
from etude_rollout.weights.loader import Announced, LoadFacts, WeightLoader
from etude_trainer.api.weights import make_weights_router
from etude_trainer.checkpoint import PARITY_FILE, directory_name
from etude_trainer.config import ModelConfig
from etude_trainer.model import load_policy
from etude_trainer.parity import measure
from etude_trainer.weight_files import (
    WEIGHTS_FILE,
    copy_side_files,
    publishable,
    write_weights,
)
from etude_trainer.weights.sending import Sender, SenderOptions
from support.vllm_bench import publish_adapter

LOADS = 2
"""Of each channel; the second meets no first-use costs."""
GAP_NATS = {"cpu": 1e-3, "cuda": 1.0}
"""Accepted by the loader: the engine computes in float32 on a CPU, in bfloat16 on CUDA."""
LORA_RANK = 8
PROBE = list(range(5, 45))


@dataclass(frozen=True, slots=True)
class Version:
    """A published directory."""

    number: int
    name: str
    write_s: float
    mib: float


def publish_times(
    model: Model, folder: Path, *, device: str, vllm_python: Path
) -> Iterator[Mapping[str, object]]:
    """One row a load; adapters first, while the engine has the weights that they belong to.

    Raises:
        FileNotFoundError: there is no vLLM to load into.
        Exception: whatever ended the loads, after the rows of those that were done.
    """
    if not vllm_python.is_file():
        raise FileNotFoundError(f"{vllm_python} is not there: make setup-vllm, or --vllm-python")
    root = folder / f"weights-{model.name}"
    root.mkdir()
    adapters = [_write_adapter(model, root, 1 + number) for number in range(LOADS)]
    versions = [*adapters, *_write_versions(model, root, first=1 + LOADS, device=device)]
    options = VllmOptions(
        model_dir=model.directory,
        port=free_port(),
        python=vllm_python.absolute(),
        dtype="bfloat16" if device == "cuda" else "float32",
        max_model_len=1024,
        max_num_seqs=16,
        kv_cache_bytes=128 << 20,
        max_lora_rank=LORA_RANK,
        extra=("--gpu-memory-utilization", "0.4") if device == "cuda" else (),
    )
    loads: list[LoadFacts] = []
    try:
        asyncio.run(_load_all(loads, root, options, versions, device=device))
    finally:
        yield from (
            {
                "model": model.name,
                "channel": load.channel,
                "mib": version.mib,
                "write_s": version.write_s,
                "load_s": load.seconds,
                "parity_gap_nats": load.parity_gap,
            }
            for load, version in zip(loads, versions, strict=False)
        )


def _write_versions(model: Model, root: Path, *, first: int, device: str) -> list[Version]:
    """Whole models for two channels, each a little further from the model."""
    policy = load_policy(model.directory, ModelConfig(), torch.device(device))
    found: list[Version] = []
    for number in range(first, first + 2 * LOADS):
        with torch.no_grad():
            for weight in policy.parameters():
                weight.mul_(1.001)
        parity = measure(policy, [PROBE], policy_version=number, dtype=torch.float32)
        name = directory_name(number, f"lease_{number}")
        began = time.perf_counter()
        directory = root / name
        directory.mkdir()
        write_weights(publishable(policy), directory / WEIGHTS_FILE)
        copy_side_files(model.directory, directory, dtype="float32")
        (directory / PARITY_FILE).write_text(parity.to_json(), encoding="utf-8")
        found.append(Version(number, name, time.perf_counter() - began, _size_mib(directory)))
    return found


def _write_adapter(model: Model, root: Path, number: int) -> Version:
    name = directory_name(number, f"lease_{number}")
    began = time.perf_counter()
    publish_adapter(model.directory, root / name, version=number, rank=LORA_RANK, seed=number)
    return Version(number, name, time.perf_counter() - began, _size_mib(root / name))


def _size_mib(directory: Path) -> float:
    return sum(path.stat().st_size for path in directory.glob("*.safetensors")) / (1 << 20)


async def _load_all(
    loads: list[LoadFacts],
    root: Path,
    options: VllmOptions,
    versions: list[Version],
    *,
    device: str,
) -> None:
    """Load the adapters, then whole models by the disk, then by the wire."""
    engine = await VllmEngine.start(options, weights_root=root)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(engine.close)
        disk = DiskChannel(root)
        wire = await _wire(stack, root, disk, torch.device(device))
        for place, version in enumerate(versions):
            channel: WeightChannel = wire if place >= 2 * LOADS else FromDisk(disk)
            loader = WeightLoader(
                engine,
                channel,
                parity_threshold=GAP_NATS[device],
                require_parity=True,
                on_load=loads.append,
            )
            await loader.ensure(Announced(version.number, version.number, version.name))


async def _wire(
    stack: AsyncExitStack, root: Path, disk: DiskChannel, device: torch.device
) -> FromTrainer:
    """The channel to a sender of this process."""
    backend = TransferBackend.NCCL if device.type == "cuda" else TransferBackend.GLOO
    sender = Sender(SenderOptions(backend, "127.0.0.1", 0, 120.0))
    sender.open(root, device)
    stack.callback(sender.close)
    app = FastAPI()
    app.include_router(make_weights_router(sender, key=None))
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://trainer", timeout=120.0
    )
    await stack.enter_async_context(client)
    return FromTrainer(disk, client, backend=backend)
