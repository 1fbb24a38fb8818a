"""The rollout service: makes engine, prompter, client and worker, and takes them down again.

`app.py` puts it behind HTTP, `serving.py` behind signals and an exit code. Everything is opened in
the background, so health is answered from the first moment.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import sys
from dataclasses import dataclass

from etude_client import AsyncEtudeClient
from etude_client.json_logs import about
from etude_proto.v1 import Check, PromptBatchRequest, RunMode

from .batch import Workshop
from .engines.base import Engine, EngineError
from .engines.opening import check_vocabulary, open_engine
from .episode import EpisodeOptions, Episodes
from .kit import Kit
from .metrics import RolloutMetrics
from .outbox import Sender
from .prompting import Prompter, PromptError, load_tokenizer
from .settings import RolloutSettings
from .spans import Decode, Marker, decoder
from .status import Phase, WorkerStatus
from .tools.opening import Environments
from .turns.tabling import TurnEpisodes
from .weights.channels import WeightChannel
from .weights.loader import LoadFacts, WeightLoader
from .weights.opening import open_channel
from .worker import Worker, WorkerFailed, wait_for_run

_log = logging.getLogger(__name__)

EXIT_OK, EXIT_BUG, EXIT_CONFIG, EXIT_FAILED = 0, 1, 2, 3
"""Exit codes: done, unforeseen, wrong settings, the worker had to give up."""


@dataclass(frozen=True, slots=True)
class Generator:
    """What turns a task into completions."""

    engine: Engine
    prompter: Prompter
    decode: Decode


class RolloutService:
    """One worker with everything it needs; an async context manager."""

    def __init__(self, settings: RolloutSettings) -> None:
        self.settings = settings
        self.status = WorkerStatus(worker=settings.worker or default_worker_name())
        self.metrics = RolloutMetrics()
        self.generator: Generator | None = None
        """Null until the engine is there."""
        self.exit_code = EXIT_OK
        self._worker: Worker | None = None
        self._task: asyncio.Task[None] | None = None
        self.is_stopping = False
        """Whether somebody asked for the end."""

    async def __aenter__(self) -> RolloutService:
        self._task = asyncio.create_task(self._run(), name="rollout service")
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.stop()
        await self.wait()

    def stop(self) -> None:
        """Finish or give back what is in work; `wait` returns when that is done."""
        self.is_stopping = True
        if self._worker is not None:
            self._worker.stop()
        elif self._task is not None:
            self._task.cancel()

    def cut_short(self) -> None:
        """Stop, and give back at once what is not reported yet."""
        self.stop()
        if self._worker is not None:
            self._worker.cut_short()

    async def wait(self) -> None:
        """Return when the service has ended, by `stop` or by a failure; see `exit_code`."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def worker_check(self) -> Check:
        """Whether the worker lives."""
        ok = self.status.phase not in (Phase.FAILED, Phase.STOPPED)
        return Check(name="worker", ok=ok, detail=self.status.snapshot().detail)

    async def ready_checks(self) -> list[Check]:
        """Whether the worker can work."""
        checks = [self.worker_check()]
        if self.generator is None:
            checks.append(Check(name="engine", ok=False, detail="loading the model"))
        else:
            try:
                await self.generator.engine.check()
            except EngineError as error:
                checks.append(Check(name="engine", ok=False, detail=str(error)))
            else:
                name = self.generator.engine.info.name
                checks.append(Check(name="engine", ok=True, detail=name))
        run_id = self.status.run_id
        detail = run_id or self.status.last_error or "not asked yet"
        checks.append(Check(name="run", ok=run_id is not None, detail=detail))
        return checks

    async def _run(self) -> None:
        status = self.status
        try:
            await self._work()
            status.phase = Phase.STOPPED
        except asyncio.CancelledError:
            status.phase = Phase.STOPPED
        except (WorkerFailed, EngineError, PromptError) as error:
            self.exit_code = EXIT_FAILED
            status.phase, status.last_error = Phase.FAILED, str(error)
            _log.error("service.failed", extra={"detail": error})
        except Exception as error:  # the last line of defence: say it, and exit non-zero
            self.exit_code = EXIT_BUG
            status.phase, status.last_error = Phase.FAILED, f"{type(error).__name__}: {error}"
            _log.exception("service.crashed")

    async def _work(self) -> None:
        settings = self.settings
        engine = await open_engine(settings)
        try:
            self.status.engine, self.status.model = engine.info.name, engine.info.model
            _log.info(
                "engine.ready", extra={"engine": engine.info.name, "model": engine.info.model}
            )
            tokenizer = await asyncio.to_thread(load_tokenizer, settings.model_path)
            await check_vocabulary(engine, tokenizer)
            prompter = Prompter(tokenizer, settings.prompt_options)
            self.generator = Generator(engine, prompter, decoder(tokenizer))
            key = settings.api_key
            environments = Environments.of(settings.tool_servers)
            try:
                async with (
                    AsyncEtudeClient(
                        settings.sampler_url,
                        api_key=None if key is None else key.get_secret_value(),
                    ) as client,
                    open_channel(settings) as channel,
                ):
                    await self._work_for_run(client, self.generator, environments, channel)
            finally:
                await environments.close()
        finally:
            self.generator = None
            await engine.close()

    async def _work_for_run(
        self,
        client: AsyncEtudeClient,
        generator: Generator,
        environments: Environments,
        channel: WeightChannel,
    ) -> None:
        settings, status = self.settings, self.status
        run = await wait_for_run(client, settings.run, status)
        _log.info("run.found", extra={"run": run.id, "run_name": run.name, "mode": run.mode})
        engine, prompter = generator.engine, generator.prompter
        options = EpisodeOptions(
            sampling=settings.sampling,
            seed=settings.seed,
            max_prompt_tokens=settings.max_prompt_tokens,
            timeout_s=settings.generation_timeout_s,
        )
        kit = Kit(engine, prompter, options)
        turns = TurnEpisodes(kit, environments, settings.turn_options)
        shop = Workshop(
            client=client,
            run=run,
            episodes=Episodes(engine, prompter, options, turns),
            loader=WeightLoader(
                engine,
                channel,
                parity_threshold=settings.parity_threshold,
                require_parity=settings.require_parity and run.mode is RunMode.TRAINING,
                on_load=self._on_load,
            ),
            sender=Sender(worker=status.worker, engine=engine.info.name),
            heartbeat_fraction=settings.heartbeat_fraction,
            status=status,
            metrics=self.metrics,
            marker=Marker(generator.decode, prefill=settings.prompt_options.prefill),
        )
        self._worker = Worker(
            shop,
            engine,
            request=PromptBatchRequest(
                num_tasks=settings.tasks_per_batch,
                worker=status.worker,
                wait_s=settings.lease_wait_s,
                ttl_s=settings.lease_ttl_s,
            ),
            batches_in_flight=settings.batches_in_flight,
            grace_s=settings.shutdown_grace_s,
        )
        with about(run=run.id):
            await self._worker.run()

    def _on_load(self, facts: LoadFacts) -> None:
        self.status.policy_version = facts.policy_version
        self.status.weights_load_s = facts.seconds
        self.status.seconds["load"] += facts.seconds
        gap = facts.parity_gap
        self.status.parity_gap = None if gap is None else min(gap, sys.float_info.max)
        self.metrics.count_load(facts)


def default_worker_name() -> str:
    """Host name and process id, in the characters that names may have."""
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).lstrip("._-")
    return f"{host or 'worker'}-{os.getpid()}"[:128]
