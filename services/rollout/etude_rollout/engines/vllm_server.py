"""Starts and stops a vLLM server process with the flags that Etude needs.

Used by `vllm_engine.py` when no URL is given, and by `etude-rollout serve-vllm`. vLLM lives in an
environment of its own; there, `vllm_child.py` ties the server's life to ours. Flags: platform.md
section 3. The server's control routes carry no authentication: it binds to loopback by default.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx

from ..weights.adapters import adaptable
from ..weights.files import read_shapes
from ..weights.staging import BACKEND
from .base import EngineError

_log = logging.getLogger(__name__)

SERVED_MODEL = "policy"
MAX_BATCHED_TOKENS = 2048
"""Most prompt tokens of one step on a CPU, unless a single prompt may be longer (our choice)."""
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Limits that vLLM 0.32 knows for `--max-lora-rank`."""
READY_TIMEOUT_S = 600.0
STDERR = 2
STOP_TIMEOUT_S = 20.0
NVIDIA_CONTROL = Path("/dev/nvidiactl")


@dataclass(frozen=True, slots=True)
class VllmOptions:
    """What to serve, and how."""

    model_dir: Path
    port: int
    python: Path
    """Interpreter of vLLM's environment, in which etude-rollout is installed too."""
    host: str = "127.0.0.1"
    dtype: Literal["float32", "bfloat16"] = "float32"
    max_model_len: int = 4096
    max_num_seqs: int = 64
    kv_cache_bytes: int = 512 << 20
    """Used on a CPU, where vLLM's own default takes nearly all memory."""
    max_lora_rank: int | None = None
    """Of adapters that may be loaded, to the layers' matrices; null serves whole models only."""
    extra: tuple[str, ...] = ()
    """More arguments for vLLM."""

    @property
    def url(self) -> str:
        """Base URL of the server."""
        return f"http://{self.host}:{self.port}"


def is_cpu_only() -> bool:
    """Whether this machine shows no NVIDIA device."""
    return not NVIDIA_CONTROL.exists()


def server_arguments(options: VllmOptions, *, on_cpu: bool) -> list[str]:
    """Arguments of vLLM's API server.

    Raises:
        EngineError: there is no model, or its weights cannot be read.
    """
    try:
        config = json.loads((options.model_dir / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EngineError(f"no model in {options.model_dir}: {error}") from error
    length = min(options.max_model_len, int(config.get("max_position_embeddings", 1 << 20)))
    arguments = [
        *("--host", options.host, "--port", str(options.port)),
        *("--model", str(options.model_dir.resolve()), "--served-model-name", SERVED_MODEL),
        *("--dtype", options.dtype, "--max-model-len", str(length)),
        *("--max-num-seqs", str(options.max_num_seqs), "--seed", "0"),
        # Of the distribution that was sampled from, which is what the trainer corrects by.
        *("--logprobs-mode", "processed_logprobs"),
        *("--weight-transfer-config", json.dumps({"backend": BACKEND})),
        # The route that says which weights sampled which token.
        "--enable-scale-out",
        "--enable-prefix-caching",
        "--disable-uvicorn-access-log",
    ]
    if options.max_lora_rank is not None:
        # Two at a time: requests under way end with the adapter that they began with.
        rank = min(rank for rank in LORA_RANKS if rank >= options.max_lora_rank)
        arguments += ["--enable-lora", "--max-lora-rank", str(rank)]
        arguments += ["--max-loras", "2", "--max-cpu-loras", "4", "--lora-target-modules"]
        arguments += sorted(
            {name.split(".")[-2] for name in adaptable(read_shapes(options.model_dir))}
        )
    if on_cpu:
        arguments += ["--enforce-eager", "--kv-cache-memory-bytes", str(options.kv_cache_bytes)]
        # A seeded request whose prompt is read in two steps kills a CPU engine of vLLM 0.32: it
        # rewinds a random generator that cannot be rewound ("CPU Generator does not use offset").
        arguments += ["--no-enable-chunked-prefill", "--max-num-batched-tokens"]
        arguments += [str(max(length, MAX_BATCHED_TOKENS))]
    return [*arguments, *options.extra]


def server_environment() -> dict[str, str]:
    """Our environment with what vLLM needs: control routes on, no network, no usage reports."""
    switches = {
        "VLLM_SERVER_DEV_MODE": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "WARNING"),
        "PYTHONWARNINGS": os.environ.get(
            "PYTHONWARNINGS", "ignore::DeprecationWarning,ignore::FutureWarning"
        ),
    }
    return {**os.environ, **switches}


def _check_free(options: VllmOptions) -> None:
    """Somebody else's server on our port would answer in vLLM's place."""
    try:
        socket.create_server((options.host, options.port)).close()
    except OSError as error:
        raise EngineError(f"vLLM cannot have {options.host}:{options.port}: {error}") from error


class VllmServer:
    """One server process. Start it from the main thread: it dies with the thread that made it."""

    def __init__(self, options: VllmOptions, process: asyncio.subprocess.Process) -> None:
        self.options = options
        self._process = process

    @classmethod
    async def start(cls, options: VllmOptions) -> VllmServer:
        """Start the server and return at once; see `wait_ready`.

        Raises:
            EngineError: no model, no such interpreter, or a port that is taken.
        """
        arguments = server_arguments(options, on_cpu=is_cpu_only())
        _check_free(options)
        child = (str(options.python), "-m", "etude_rollout.vllm_child", str(os.getpid()))
        try:
            process = await asyncio.create_subprocess_exec(
                *child,
                *arguments,
                env=server_environment(),
                start_new_session=True,
                stdout=STDERR,  # what our command says on standard output is for programs
            )
        except OSError as error:
            raise EngineError(f"cannot run {options.python}: {error}") from error
        _log.info("vllm.started", extra={"child_pid": process.pid, "url": options.url})
        return cls(options, process)

    @property
    def exit_code(self) -> int | None:
        """Null while the process runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """The exit code, when the process has ended."""
        return await self._process.wait()

    async def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Return when the server answers.

        Raises:
            EngineError: the process ended, or took too long.
        """
        try:
            async with asyncio.timeout(timeout_s), httpx.AsyncClient(trust_env=False) as client:
                while self.exit_code is None:
                    with contextlib.suppress(httpx.HTTPError):
                        if (await client.get(f"{self.options.url}/health")).is_success:
                            return
                    await asyncio.sleep(0.25)
        except TimeoutError as error:
            raise EngineError(f"vLLM was not ready within {timeout_s:g} s") from error
        raise EngineError(
            f"vLLM ended with exit code {self.exit_code}, see its log above; {self.options.python} "
            "must have vllm and etude-rollout installed (ETUDE_VLLM_PYTHON)"
        )

    async def stop(self) -> None:
        """Stop the server and its workers: politely to the first process, then by force."""
        if self.exit_code is None:
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await self._process.wait()
        # Its session holds the engine's processes too; what is left of them has no parent now.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        _log.info(
            "vllm.stopped", extra={"child_pid": self._process.pid, "exit_code": self.exit_code}
        )
