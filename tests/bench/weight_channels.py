"""Time from published weights to serving them, by channel, on a real vLLM server (CPU).

    .venv/bin/python tests/bench/weight_channels.py --model .etude/models/smollm2-135m-instruct

Needs `make setup-vllm`. Each round publishes a version as the trainer does (float32, untied output
layer), then brings it to the engine: `publish` is the write to the volume; `stage` is start and
update, while the engine goes on with what it has; `swap` is the rest, while nothing is sampled;
`proof` is the trainer's probes through the engine. For an adapter, `swap` is the load.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import torch
from stack import machine
from transformers import AutoTokenizer

from etude_proto.v1.weights import TransferBackend, TransferRequest
from etude_rollout.engines.vllm_engine import VllmEngine
from etude_rollout.engines.vllm_server import VllmOptions
from etude_trainer.checkpoint import Checkpoint, CheckpointState, CheckpointStore
from etude_trainer.config import parse_config
from etude_trainer.parity import Parity, measure
from etude_trainer.service import build_learner
from etude_trainer.weights.disk import DiskChannel
from etude_trainer.weights.sending import Sender, SenderOptions

ROOT = Path(__file__).resolve().parents[2]
TEXT = """The weather in Paris is mild in spring. You may call the function get_weather with a city
to learn more about it, and then answer the question of the user in one short sentence."""
"""Real words: log-probabilities of meaningless tokens are off by 5e-4 in float32 by themselves."""
RANK = 16

Times = dict[str, dict[str, list[float]]]


class Publisher:
    """Publishes versions of a model, as the trainer does."""

    def __init__(self, model_dir: Path, folder: Path) -> None:
        self.learner = build_learner(model_dir, parse_config(""), device="cpu")
        self.store = CheckpointStore(folder / "checkpoints")
        self.root = folder / "weights"
        self.channel = DiskChannel(
            self.root, model_dir=model_dir, dtype=torch.float32, keep_versions=2
        )
        self.store.open()
        self.channel.open()
        ids = AutoTokenizer.from_pretrained(model_dir).encode(TEXT)
        self.probe = [list(ids)[:64]] * 4

    def next(self, version: int) -> tuple[Path, Parity, float]:
        """A version that differs from the last; its directory, probes, and seconds to publish."""
        policy = self.learner.policy
        with torch.no_grad():
            for parameter in policy.parameters():
                parameter.mul_(1.0 + 1e-3 * version)
        parity = measure(policy, self.probe, policy_version=version, dtype=torch.float32)
        state = CheckpointState(
            policy_version=version,
            lease_id=f"tb_{version}",
            fence=version,
            weights_uri=self.channel.uri(version, f"tb_{version}"),
            metrics={},
        )
        saved: Checkpoint = self.store.save(
            state, policy=policy, optimizer=self.learner.optimizer, parity=parity
        )
        began = time.perf_counter()
        self.channel.publish(saved)
        seconds = time.perf_counter() - began
        self.store.discard(saved)
        return Path(state.weights_uri), parity, seconds


def publish_adapter(model_dir: Path, out: Path, seed: int) -> float:
    """A LoRA adapter of all linear layers; seconds to write it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(r=RANK, target_modules="all-linear"))
    began = time.perf_counter()
    model.save_pretrained(out)
    return time.perf_counter() - began


async def timed(engine: VllmEngine, parity: Parity, times: dict[str, list[float]]) -> None:
    """The probes through the engine."""
    began = time.perf_counter()
    ours = await engine.score_logprobs(parity.token_ids)
    times["proof"].append(time.perf_counter() - began)
    gap = max(
        abs(a - b)
        for row_a, row_b in zip(ours, parity.logprobs, strict=True)
        for a, b in zip(row_a, row_b, strict=True)
    )
    times["gap"].append(gap)


async def measured(options: argparse.Namespace, folder: Path) -> Times:
    """Every channel, round by round in turn."""
    times: Times = defaultdict(lambda: defaultdict(list))
    publisher = Publisher(options.model, folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = VllmOptions(
        model_dir=options.model,
        port=port,
        python=ROOT / ".venv-vllm" / "bin" / "python",
        max_model_len=1024,
        max_num_seqs=8,
        max_lora_rank=RANK,
    )
    sender = Sender(SenderOptions(TransferBackend.GLOO, "127.0.0.1", 0, 60.0))
    sender.open(publisher.root, torch.device("cpu"))
    engine = await VllmEngine.start(server, weights_root=publisher.root)
    weights = engine._weights
    finish = weights._finish_update
    began_swap: list[float] = []

    async def noted(version: int) -> None:
        began_swap.append(time.perf_counter())
        await finish(version)

    weights._finish_update = noted  # type: ignore[method-assign]
    try:
        for version in range(1, 2 * options.rounds + 1):
            name = ("disk", "gloo")[version % 2]
            path, parity, publish_s = publisher.next(version)
            began = time.perf_counter()
            if name == "disk":
                await engine.load_weights(path, version=version)
            else:
                request = TransferRequest(backend=TransferBackend.GLOO, world_size=1)
                transfer = sender.start(path.name, request)
                await engine.receive_weights(transfer, version=version)
            ended = time.perf_counter()
            times[name]["publish"].append(publish_s)
            times[name]["stage"].append(began_swap[-1] - began)
            times[name]["swap"].append(ended - began_swap[-1])
            await timed(engine, parity, times[name])
            publisher.channel.prune(announced_version=version)
        for number in range(options.rounds):
            out = publisher.root / f"v{900 + number:06d}-lora"
            times["lora"]["publish"].append(publish_adapter(options.model, out, number))
            began = time.perf_counter()
            await engine.load_weights(out, version=900 + number)
            times["lora"]["swap"].append(time.perf_counter() - began)
    finally:
        await engine.close()
        sender.close()
    return times


def main() -> None:
    """Measure and print a table, then JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    options.model = options.model.resolve()
    print(f"machine: {machine()}")
    folder = Path(tempfile.mkdtemp(prefix="etude-channels-"))
    try:
        times = asyncio.run(measured(options, folder))
    finally:
        shutil.rmtree(folder)
    rows = {}
    for name, parts in times.items():
        row = {part: statistics.median(values) for part, values in parts.items()}
        rows[name] = {**row, "worst": {part: max(values) for part, values in parts.items()}}
        print(f"{name:5} " + "  ".join(f"{part} {value:.3g}" for part, value in row.items()))
    json.dump({"machine": machine(), "rounds": options.rounds, "rows": rows}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
