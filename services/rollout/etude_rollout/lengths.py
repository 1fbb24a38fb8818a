"""How long a task's completions will be: what to start first so that a batch ends soonest.

Longest first is Graham's rule for machines that take work as they come free; here the slots of the
engine are the machines. A task that was seen is expected to take what it took, a new one what tasks
of its prompt's length took. Pure; kept by the worker, used by `batch.py`. Our choice throughout.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

KEPT_TASKS = 65_536
"""Tasks remembered; the one not seen for longest is forgotten."""
MEMORY = 0.5
"""Weight of the newest group in a task's expectation."""
SLOW_MEMORY = 0.05
"""Weight of the newest group in the expectation of tasks that were never seen."""


class LengthBook:
    """Longest completion of a group, in tokens, by task and by the prompt's length."""

    def __init__(self) -> None:
        self._by_task: OrderedDict[str, float] = OrderedDict()
        self._by_prompt: dict[int, float] = {}

    def learn(self, task_id: str, prompt_chars: int, num_tokens: Iterable[int]) -> None:
        """Take in a group: the tokens of its completions; nothing of an empty one."""
        longest = float(max(num_tokens, default=0))
        if longest == 0.0:
            return
        self._by_task[task_id] = _moved(self._by_task.get(task_id), longest, MEMORY)
        self._by_task.move_to_end(task_id)
        if len(self._by_task) > KEPT_TASKS:
            self._by_task.popitem(last=False)
        size = prompt_chars.bit_length()
        self._by_prompt[size] = _moved(self._by_prompt.get(size), longest, SLOW_MEMORY)

    def expect(self, task_id: str, prompt_chars: int) -> float:
        """Tokens of the longest completion; 0 if nothing like it was ever seen."""
        known = self._by_task.get(task_id)
        if known is not None:
            return known
        # Prompts of up to twice the length share an expectation.
        size = prompt_chars.bit_length()
        near = min(self._by_prompt, key=lambda other: (abs(other - size), other), default=None)
        return 0.0 if near is None else self._by_prompt[near]

    def longest_first(self, tasks: Sequence[tuple[str, int]]) -> list[int]:
        """Indices of tasks, given as (id, characters of the prompt), in the order to start them;
        equals by the longer prompt, then as they came."""
        keys = [(-self.expect(*task), -task[1]) for task in tasks]
        return sorted(range(len(tasks)), key=keys.__getitem__)


def _moved(before: float | None, new: float, weight: float) -> float:
    return new if before is None else before + weight * (new - before)
