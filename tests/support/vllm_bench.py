"""One real vLLM server for several tests: started once, driven from an event loop of its own."""

from __future__ import annotations

import asyncio
import json
import socket
import warnings
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
import torch
from fastapi import FastAPI
from transformers import AutoModelForCausalLM

from etude_proto.v1.weights import TransferBackend
from etude_rollout.engines import GenerationRequest
from etude_rollout.engines.base import Completion
from etude_rollout.engines.vllm_engine import VllmEngine
from etude_rollout.engines.vllm_server import VllmOptions
from etude_rollout.weights.channels import FromDisk, FromTrainer
from etude_rollout.weights.disk import DiskChannel
from etude_rollout.weights.loader import LoadFacts, WeightLoader
from etude_trainer.api.weights import make_weights_router
from etude_trainer.weights.sending import Sender, SenderOptions
from support.rollout_parts import tiny_policy
from support.tree import ROOT

PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
MAX_RANK = 8
ResultT = TypeVar("ResultT")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class VllmBench:
    """The server, its engine, the folder that weights are published in."""

    runner: asyncio.Runner
    engine: VllmEngine
    model_dir: Path
    root: Path

    def run(self, work: Coroutine[None, None, ResultT]) -> ResultT:
        """Await something in the engine's event loop."""
        return self.runner.run(work)

    def loader(self, loads: list[LoadFacts]) -> WeightLoader:
        """A worker's loader over the shared volume."""
        channel = FromDisk(DiskChannel(self.root))
        return self._loader(channel, loads)

    @asynccontextmanager
    async def wire(self, loads: list[LoadFacts]) -> AsyncIterator[tuple[WeightLoader, Sender]]:
        """A worker's loader over a trainer that sends by gloo."""
        sender = Sender(SenderOptions(TransferBackend.GLOO, "127.0.0.1", 0, 10.0))
        sender.open(self.root, torch.device("cpu"))
        app = FastAPI()
        app.include_router(make_weights_router(sender, key=None))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://trainer") as client:
            disk = DiskChannel(self.root)
            channel = FromTrainer(disk, client, backend=TransferBackend.GLOO)
            yield self._loader(channel, loads), sender
        sender.close()

    def _loader(self, channel: FromDisk | FromTrainer, loads: list[LoadFacts]) -> WeightLoader:
        return WeightLoader(
            self.engine,
            channel,
            parity_threshold=1e-4,
            require_parity=True,
            on_load=loads.append,
        )

    async def gaps(
        self, request: GenerationRequest, made: tuple[Completion, ...]
    ) -> dict[int, float]:
        """Largest distance, by the version of the token, between the log-probabilities that came
        with completions and those that the weights which serve now give the same tokens."""
        worst: dict[int, float] = {}
        for one in made:
            ids = request.prompt_ids + one.token_ids
            scored = (await self.engine.score_logprobs([ids]))[0][len(request.prompt_ids) - 1 :]
            for version, ours, theirs in zip(one.versions, scored, one.logprobs, strict=True):
                worst[version] = max(worst.get(version, 0.0), abs(ours - theirs))
        return worst


@contextmanager
def vllm_bench(folder: Path) -> Iterator[VllmBench]:
    """A server of the tiny policy that takes whole models and adapters."""
    model_dir, root = tiny_policy(folder / "tiny"), folder / "weights"
    root.mkdir()
    options = VllmOptions(
        model_dir=model_dir,
        port=free_port(),
        python=PYTHON,
        max_model_len=1024,
        max_num_seqs=16,
        kv_cache_bytes=128 << 20,
        max_lora_rank=MAX_RANK,
    )
    with asyncio.Runner() as runner:
        engine = runner.run(VllmEngine.start(options, weights_root=root))
        try:
            yield VllmBench(runner, engine, model_dir, root)
        finally:
            runner.run(engine.close())


def publish_adapter(
    model_dir: Path, out: Path, *, version: int, rank: int = 4, seed: int = 0
) -> Path:
    """Publish a LoRA adapter with weights that matter, and PEFT's own log-probabilities."""
    from peft import LoraConfig, get_peft_model

    base = AutoModelForCausalLM.from_pretrained(model_dir)
    parts = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=parts, lora_dropout=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks by an older name
        model = get_peft_model(base, config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.2)
    probe = list(range(5, 45))
    with torch.inference_mode():
        logits_TV = model(torch.tensor([probe])).logits[0, :-1]
    logprobs_T = torch.log_softmax(logits_TV, -1).gather(1, torch.tensor(probe[1:])[:, None])
    model.save_pretrained(out)
    parity = {
        "policy_version": version,
        "token_ids": [probe],
        "logprobs": [logprobs_T[:, 0].tolist()],
    }
    (out / "parity.json").write_text(json.dumps(parity), encoding="utf-8")
    return out
