"""Names of the features of tasks that a weigher may read, and their order.

Neighbours: `datasets.features` computes them from a task when it is imported, the service adds the
index of the source, `parts.Seeing` reads them.
"""

from __future__ import annotations

FEATURES = (
    "num_tools",
    "num_calls",
    "num_parameters",
    "prompt_characters",
    "num_turns",
    "num_subtasks",
)
"""log1p of counts: tools on offer, gold calls, gold parameters, characters of the dialogue, its
turns, sub-tasks (our choice)."""
SOURCE = "source"
"""Index of the task's source in `Context.sources`."""
MAX_GIVEN = 64
"""Most features that a user may give with a task (`metadata.features`)."""


def feature_names(num_given: int) -> list[str]:
    """All features in order: those of every task, the source, then those given by users."""
    return [*FEATURES, SOURCE, *(f"given_{i}" for i in range(num_given))]
