"""The demo as a program: prepare, start the services, watch, stop, leave a summary.

Exit codes: 0 ended by time or by the user, 1 something failed and was said, 2 a wrong option or
another demo here.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.live import Live

from etude_client import EtudeClient, EtudeError
from etude_proto.v1 import Run

from . import lines, plot, prepare, summary
from .options import BadOption, Options, read_options
from .prepare import Interrupted, PreparationFailed
from .session import Session
from .supervisor import ChildFailed
from .view import render
from .watch import StepClock, Watcher

POLL_S = 0.7
RESERVE_S = 30.0
"""Of the time given, kept for stopping and the summary; a tenth of it where it is short."""
READY_TIMEOUT_S = 60.0
PATIENCE_S = 40.0
"""For trainer and rollout to end in order: a pass of the model cannot be interrupted."""
OK, FAILED, REFUSED = 0, 1, 2


class Stop:
    """Signals as a flag; the third one makes the end impolite."""

    def __init__(self) -> None:
        self.num_asked = 0
        self._event = threading.Event()

    def install(self) -> None:
        """Take over Ctrl-C, SIGTERM and a closed terminal."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.num_asked += 1
        self._event.set()

    def is_asked(self) -> bool:
        """Whether the user wants to stop."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Pause, but not for a user who wants to stop."""
        return self._event.wait(seconds)


def main() -> int:
    """Run the demo with the environment's options; returns the exit code."""
    console = Console()
    root = Path(__file__).resolve().parents[3]
    stop = Stop()
    stop.install()
    try:
        options = read_options(os.environ, root)
        with _alone(options):
            return Demo(options, console, stop).run()
    except BadOption as error:
        console.print(f"demo: {error}", markup=False)
        return REFUSED
    except Interrupted:
        console.print("demo: stopped before the loop began")
        return OK
    except (PreparationFailed, ChildFailed, EtudeError) as error:
        console.print(f"demo: {error}", markup=False, highlight=False, soft_wrap=True)
        return FAILED


@contextmanager
def _alone(options: Options) -> Iterator[None]:
    """One demo at a time in a data directory.

    Raises:
        BadOption: there is another.
    """
    options.demo_dir.mkdir(parents=True, exist_ok=True)
    with (options.demo_dir / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadOption(f"another demo runs in {options.data}") from None
        yield


class Demo:
    """One start."""

    def __init__(self, options: Options, console: Console, stop: Stop) -> None:
        self.options, self.console, self.stop = options, console, stop
        seconds = 60.0 * options.minutes
        self.session = Session(
            options=options,
            places=prepare.choose_ports(options.ports),
            stop_at_s=time.monotonic() + seconds - min(RESERVE_S, 0.1 * seconds),
        )
        self.client = EtudeClient(self.session.places.sampler_url, timeout_s=5.0, max_attempts=2)

    def run(self) -> int:
        """From nothing to the summary; whatever happens, no process is left."""
        session = self.session
        with self.client, ExitStack() as cleanup:
            cleanup.callback(self._stop_children, ["sampler"], 20.0)
            cleanup.callback(self._stop_children, ["rollout", "trainer"], PATIENCE_S)
            self.say(f"policy {self.options.profile.title}, engine {self.options.engine}")
            prepare.make_model(self.options, is_stopped=self.stop.is_asked)
            session.supervisor.add(prepare.sampler_launch(self.options, session.places))
            self.say("starting the sampler on its own PostgreSQL and Valkey")
            self._await_sampler()
            run = self._run_of_demo()
            session.say(f"run {run.id}, preset {run.curriculum.preset}, {run.num_tasks} tasks")
            clock = StepClock(self.options.demo_dir / f"timings-{run.id}.jsonl")
            watcher = Watcher(self.client, session.places, run.id, clock=clock)
            cleanup.callback(watcher.close)
            supervisor = session.supervisor
            supervisor.add(prepare.rollout_launch(self.options, session.places, run))
            supervisor.add(prepare.trainer_launch(self.options, session.places, run))
            self._watch(watcher)
            return self._conclude(watcher)

    def say(self, what: str) -> None:
        """Tell the user, outside the live view."""
        self.console.print(f"demo: {what}", markup=False, highlight=False, soft_wrap=True)

    def _await_sampler(self) -> None:
        """
        Raises:
            ChildFailed: it does not start.
            Interrupted: the user does not want to wait.
        """
        give_up = time.monotonic() + READY_TIMEOUT_S
        while True:
            try:
                self.client.readyz()
                return
            except EtudeError as error:
                if time.monotonic() > give_up:
                    raise ChildFailed(f"the sampler is not ready: {error}") from error
            self.session.supervisor.tend()
            if self.stop.wait(0.2):
                raise Interrupted

    def _run_of_demo(self) -> Run:
        """The run to resume, or a new one."""
        options, session = self.options, self.session
        run = None if options.fresh else prepare.find_run(self.client, options.run_name)
        if run is None:
            prepare.import_tasks(options, session.places, is_stopped=self.stop.is_asked)
            run = prepare.create_run(self.client, options)
            self.say(f"new run {run.id}: {run.num_tasks} tasks, preset {run.curriculum.preset}")
        else:
            session.resumed_at = run.policy_version
            self.say(f"resuming run {run.id} at step {run.policy_version} (FRESH=1 starts anew)")
        session.run_id = run.id
        return run

    def _watch(self, watcher: Watcher) -> None:
        """Until the time is over or the user stops.

        Raises:
            ChildFailed: a service cannot be kept running.
        """
        session = self.session
        if not self.console.is_terminal:
            session.on_event = self.say
            self._loop(watcher, None)
            return
        with Live(
            console=self.console, screen=True, auto_refresh=False, redirect_stderr=False
        ) as live:
            self._loop(watcher, live)
            session.say("stopping")
            self._stop_children(["rollout", "trainer"], PATIENCE_S, watcher=watcher, live=live)

    def _loop(self, watcher: Watcher, live: Live | None) -> None:
        session, printed_at = self.session, 0.0
        while not self.stop.is_asked() and time.monotonic() < session.stop_at_s:
            session.supervisor.tend()
            for point in watcher.poll():
                curriculum = watcher.seen.curriculum
                lanes = [lane.name for lane in curriculum.lanes] if curriculum else []
                told = lines.event_line(point) if live else lines.step_line(point, lanes)
                session.say(told)
            if live is not None:
                self._draw(watcher, live)
            elif time.monotonic() - printed_at >= lines.EVERY_S:
                printed_at = time.monotonic()
                self.console.print(
                    lines.status_line(session, watcher),
                    markup=False,
                    highlight=False,
                    soft_wrap=True,
                )
            self.stop.wait(POLL_S)

    def _draw(self, watcher: Watcher, live: Live) -> None:
        size = self.console.size
        live.update(
            render(self.session, watcher, width=size.width, height=size.height), refresh=True
        )

    def _stop_children(
        self,
        names: list[str],
        patience_s: float,
        *,
        watcher: Watcher | None = None,
        live: Live | None = None,
    ) -> None:
        asked_before = self.stop.num_asked

        def pause() -> None:
            if watcher is not None and live is not None:
                watcher.poll()
                self._draw(watcher, live)
            time.sleep(0.1)
            if self.stop.num_asked > max(1, asked_before):
                for child in ending:
                    child.kill()

        self.session.count_restarts()
        ending = [child for child in self.session.supervisor.children if child.name in names]
        self.session.supervisor.stop(names, patience_s=patience_s, while_waiting=pause)

    def _conclude(self, watcher: Watcher) -> int:
        """Stop the loop's services, then gather the figures from the sampler, and tell them."""
        session, options = self.session, self.options
        reason = "the user" if self.stop.is_asked() else "time"
        self._stop_children(["rollout", "trainer"], PATIENCE_S)
        session.supervisor.tend()
        ending = summary.Ending(reason, watcher.conservation, watcher.clock.steps)
        figures = summary.gather(self.client, session, ending)
        summary.write(options.demo_dir / "summary.json", figures)
        steps = figures["steps"]
        assert isinstance(steps, list)
        if steps:
            title = (
                f"Etude demo: {options.profile.title}, {options.engine}, preset {prepare.PRESET}"
            )
            plot.draw(options.demo_dir / "summary.png", steps, title=title)
        told = summary.words(figures, options)
        self.console.print(told, markup=False, highlight=False, soft_wrap=True)
        checks = figures["audit"]
        assert isinstance(checks, dict)
        is_sound = checks["counted_once"] and checks["tasks_accounted_for"]
        return OK if is_sound and not checks["conservation_failures"] else FAILED
