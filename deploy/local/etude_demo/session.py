"""One start of the demo as its parts see it: options, time, children, and what happened."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from .options import Options
from .prepare import Places
from .supervisor import Child, Supervisor

MAX_EVENTS = 50


@dataclass(slots=True)
class Session:
    """The running demo."""

    options: Options
    places: Places
    stop_at_s: float
    """On the monotonic clock: when the loop is ended, early enough to be gone in time."""
    started_at_s: float = field(default_factory=time.monotonic)
    events: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=MAX_EVENTS))
    """Clock time and what happened."""
    supervisor: Supervisor = field(init=False)
    on_event: Callable[[str], None] | None = None
    """Told about events as well, where nobody sees the list."""
    run_id: str = ""
    resumed_at: int | None = None
    """The version that the run had; null for a new run."""
    num_restarts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.supervisor = Supervisor(self.say)

    def say(self, what: str) -> None:
        """Note an event."""
        self.events.append((time.strftime("%H:%M:%S"), what))
        if self.on_event is not None:
            self.on_event(what)

    @property
    def elapsed_s(self) -> float:
        """Since the start of the program."""
        return time.monotonic() - self.started_at_s

    def child(self, name: str) -> Child | None:
        """A service's process, if it is looked after."""
        for child in self.supervisor.children:
            if child.name == name:
                return child
        return None

    def state_of(self, name: str) -> str:
        """What the process of a silent service does, in a few words."""
        child = self.child(name)
        if child is None:
            return "stopping"
        if not child.is_running:
            return f"died ({child.last_exit or 'just now'}), starts again"
        return "starting" if child.num_restarts == 0 else "starting again"

    def count_restarts(self) -> dict[str, int]:
        """Restarts of every service so far, also of those that are stopped."""
        for child in self.supervisor.children:
            self.num_restarts[child.name] = child.num_restarts
        return dict(self.num_restarts)
