"""What hard sampling and examples of its own did in a cell: counts, as they happen.

Used by `real_cell.py`; `real_summary.py` prints their means.
"""

from __future__ import annotations

from collections import Counter

from etude_proto.v1 import CurriculumView, GroupReport, PromptItem

INFORMATIVE = 1e-8
"""Variance of the rewards above which a group is informative."""


class Counts:
    """Adds up."""

    def __init__(self) -> None:
        self._found: Counter[str] = Counter()

    def group(self, item: PromptItem, report: GroupReport) -> None:
        """One group that was rolled out."""
        attempt = report.attempts[0]
        rewards = [one.reward for one in attempt.outcomes]
        mean = sum(rewards) / len(rewards)
        varies = sum((one - mean) ** 2 for one in rewards) / len(rewards) > INFORMATIVE
        num_right = sum(one.success for one in attempt.outcomes)
        if item.scaffold.kind == "few_shot":
            self._add("asked to guide", True)
        if attempt.scaffold_kind == "few_shot":
            self._add("guided", True)
            self._add("guided, some right", num_right > 0)
            self._add("guided, informative", varies)
        elif item.task.metadata["grade"] == "hard":
            self._add("bare hard", True)
            self._add("bare hard, some right", num_right > 0)
            self._add("bare hard, informative", varies)
        self._add("probes", not item.train)
        if item.self_example is not None:
            self._found["asked for examples, rollouts"] += len(rewards)
            self._found["valid examples, rollouts"] += sum(
                one.shaping > 0.0 for one in attempt.outcomes
            )

    def state(self, view: CurriculumView) -> None:
        """Hard sampling after a batch."""
        if view.hard is not None:
            self._found["rounds"] = view.hard.round
            for name, now in (("hard", view.hard.num_hard), ("parked", view.hard.num_parked)):
                self._found[f"{name}, at most"] = max(self._found[f"{name}, at most"], now)
                self._found[f"{name}, at the end"] = now

    def document(self) -> dict[str, int]:
        """By name."""
        return dict(self._found)

    def _add(self, name: str, happened: bool) -> None:
        self._found[name] += int(happened)
