"""The store under random interleavings, against a model that says what must hold after each step.

Real PostgreSQL and Valkey, the sampler's own services on two replicas, crashes between any two
steps, a Redis that forgets. Each step is followed by every invariant (`support.model_checks`), each
history by a replay of its decision log. `ETUDE_MODEL_EXAMPLES` sets the number of histories;
another number than the default also makes them random, `ETUDE_MODEL_SHRINK` shrinks what fails.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from contextlib import AsyncExitStack

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from etude_proto.v1 import CurriculumConfig, RunMode
from etude_sampler.embedded import RunningServer
from etude_sampler.errors import Rebuilding
from support.model_reports import CRASH, REPLICA
from support.model_training import TrainingMachine
from support.model_world import Crash, World, world
from support.replaying import replayed

pytestmark = pytest.mark.chaos

DEFAULT_EXAMPLES = 20
NUM_EXAMPLES = int(os.environ.get("ETUDE_MODEL_EXAMPLES", DEFAULT_EXAMPLES))
NUM_STEPS = 50
MEANWHILE = st.sampled_from(["drain", *["mend"] * 3, *["work"] * 6, "forget", "rebuild"])
SHRINK = "ETUDE_MODEL_SHRINK" in os.environ


class Machine(TrainingMachine):
    """All calls, and everything else that happens to a run."""

    # What the background does.

    def mend(self, at: int) -> None:
        """The guard: announce what Redis missed, move every weight that aged."""
        versions = self._on(at).versions
        self._do(versions.announce(self.run.id))
        self._do(versions.refresh(self.run.id, since=0))
        self.model.announce()
        self.model.unsettled_weights = False

    def drain(self) -> None:
        """The decision log moves to PostgreSQL."""
        self._do(self.world.drain(self.run.id))

    @rule(at=REPLICA, kind=MEANWHILE, drained=st.booleans(), crash=CRASH)
    def meanwhile(self, at: int, kind: str, drained: bool, crash: int) -> None:
        """The background's work; seldom, for it ends every lease, Redis loses the run."""
        if kind == "forget":
            self._forget(at, drained=drained, crash=crash)
        elif kind == "rebuild":
            done = self._do(self._on(at).rebuilder.rebuild(self.run.id))
            self.model.rebuilt(done.epoch)
        elif kind == "mend":
            self.mend(at)
        elif kind == "drain":
            self.drain()
        else:
            self.work(at, 1 + crash % 4, True)

    def _forget(self, at: int, *, drained: bool, crash: int) -> None:
        """Nothing is served until one replica has rebuilt the run."""
        if drained:
            self.drain()
        else:
            self.model.lost_log.add(self.model.epoch)
        self.world.forget(self.run.id)
        with pytest.raises(Rebuilding):
            self._draw(at, num=1, worker="w0", key=uuid.uuid4().hex)
        if crash == 0:
            self.world.trap.at = ("open", "before")
            with pytest.raises(Crash):
                self._do(self._on(1 - at).rebuilder.ensure(self.run.id))
        done = self._do(self._on(at).rebuilder.ensure(self.run.id))
        assert done is not None
        assert self._do(self._on(1 - at).rebuilder.ensure(self.run.id)) is None
        self.model.rebuilt(done.epoch)

    # After every step, and at the end.

    @invariant()
    def every_invariant_holds(self) -> None:
        """All checks of `support.model_checks`."""
        assert self.world.trap.at is None, "a crash was ordered that never came"
        self.checks.all()

    def teardown(self) -> None:
        """Both replicas see the same run, and every batch is drawn again the same."""
        if not hasattr(self, "run"):
            return
        self.world.trap.at = None
        self.checks.all(anew=True)
        self.checks.invariant_6_stateless_replicas(
            *(self._do(one.views.curriculum(self.run.id)) for one in self.world.replicas)
        )
        self._do(self.world.drain(self.run.id))
        report = self._do(replayed(self.world.database_url, self.run.id))
        self.checks.invariant_8_reproducible(report)


@pytest.mark.parametrize(
    ("chosen", "preset", "share"),
    [
        (RunMode.TRAINING, "dscl", 0.7),
        (RunMode.CURRICULUM_ONLY, "dscl", 0.3),
        (RunMode.TRAINING, "plr", 0.2),
    ],
)
def test_invariants_1_to_8_and_10_hold_in_every_interleaving(
    database_url: str, valkey: RunningServer, chosen: RunMode, preset: str, share: float
) -> None:
    """Named after what it tries to break; `invariant_N` are its checks."""

    async def opened(stack: AsyncExitStack) -> World:
        return await stack.enter_async_context(world(database_url, valkey.url))

    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        made = runner.run(opened(stack))
        try:

            class Bound(Machine):
                """The machine on these servers."""

                world = made
                mode = chosen
                curriculum = CurriculumConfig(preset=preset)

            Bound.runner = runner
            run_state_machine_as_test(
                Bound,
                settings=settings(
                    max_examples=round(share * NUM_EXAMPLES),
                    stateful_step_count=NUM_STEPS,
                    deadline=None,
                    derandomize=NUM_EXAMPLES == DEFAULT_EXAMPLES,
                    database=None,
                    print_blob=True,
                    suppress_health_check=list(HealthCheck),
                    phases=[Phase.generate, *([Phase.shrink] if SHRINK else [])],
                ),
            )
        finally:
            runner.run(stack.aclose())
