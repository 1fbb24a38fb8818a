"""``score_completion``: a completion and a gold in, components and reward out.

The one entry point of the worker and of ``score.py``. Reads the completion (``toolrl_format.py``),
compares calls (``parts.py``), applies the switches (``config.py``) and the component weights
(``scored.py``). Nothing a policy writes makes it raise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .config import Bounds, RewardConfig, RewardConfigError, Switch
from .gold import Gold, Reading, active_components
from .parts import Parts, equal_lists, full_parts, parity_parts, robust_parts, whole_share
from .scored import Scored, weighted_parts
from .toolrl_format import format_ok, parity_calls, robust_calls, thought_words

_NOTHING: Final = Parts(0.0, 0.0, 0.0)


def score_completion(
    completion: str,
    gold: Gold,
    *,
    config: RewardConfig,
    component_weights: Mapping[str, float] | None = None,
    step: int = 0,
) -> Scored:
    """Score one completion (the text after the chat template, as generated).

    ``component_weights`` come with the lease: names that are no component of this gold are
    ignored, missing ones are 1. ``step`` is the global step that scheduled switches read.
    Raises GoldError if the gold was validated for another mode, RewardConfigError if component
    weights other than 1 meet a switch that scores calls only as a whole, ValueError for a weight
    that is no weight or a negative step.
    """
    if step < 0:
        raise ValueError(f"step must be >= 0, not {step}")
    reading = gold.reading(config.mode)
    text = completion.strip()
    right_format = format_ok(text, reading.blocks, mode=config.mode)
    calls = _read_calls(text, config) if reading.calls else []
    num_params = reading.num_params
    parts = _parts(reading, calls, config, ordered=False)
    components = _components(reading, right_format, parts, num_params)
    bounds = config.bounds(step)

    weights = _effective(component_weights, components)
    if weights is None:
        format_part = bounds.format_max if right_format else bounds.format_min
        share = _share(reading, calls, config, parts)
        correctness = _between(bounds, share) if reading.calls else 0.0
    else:
        if not config.takes_weights:
            raise RewardConfigError(
                "component weights cannot act with INTERMEDIATEREWARD or COARSEREWARD"
            )
        weighed = components
        if config.has(Switch.REFINEDREWARD):
            refined = _parts(reading, calls, config, ordered=True)
            weighed = _components(reading, right_format, refined, num_params)
        format_part, correctness = weighted_parts(
            weighed, n=len(reading.calls), k=num_params, weights=weights, bounds=bounds
        )
    length = _length(text, config.rewarded_words(step))
    return Scored(
        total=format_part + correctness + length,
        format=format_part,
        correctness=correctness,
        length=length,
        components=components,
        success=all(value == 1.0 for value in components.values()),
        num_gold_calls=len(reading.calls),
        num_gold_params=num_params,
    )


def _read_calls(text: str, config: RewardConfig) -> list[object] | None:
    if config.mode == "parity":
        return parity_calls(text)
    calls = robust_calls(text)
    return None if calls is None else list(calls)


def _parts(
    reading: Reading, calls: list[object] | None, config: RewardConfig, *, ordered: bool
) -> Parts | None:
    """The parts of correctness; None for calls that could not be read or examined.

    Equal lists come first, as in ToolRL: they are right whatever the rest would make of key order
    or of NaN, which differs from itself but not inside equal lists.
    """
    if calls is None or not reading.calls:
        return None
    if equal_lists(reading.calls, calls):
        return full_parts(reading.calls)
    if config.mode == "parity":
        return parity_parts(reading.calls, calls, ordered=ordered)
    well_formed = [call for call in calls if isinstance(call, dict)]
    return robust_parts(reading.calls, well_formed, ordered=ordered)


def _components(
    reading: Reading, right_format: bool, parts: Parts | None, num_params: int
) -> dict[str, float]:
    """The active components, in order (algorithms.md 3.1)."""
    num_calls = len(reading.calls)
    names, keys, values = parts or _NOTHING
    quality = {
        "format": 1.0 if right_format else 0.0,
        "tool_name": names,
        "param_name": keys / num_calls if num_calls else 0.0,
        "param_value": values / num_params if num_params else 0.0,
    }
    return {name: quality[name] for name in active_components(num_calls, num_params)}


def _share(
    reading: Reading, calls: list[object] | None, config: RewardConfig, parts: Parts | None
) -> float:
    """Credit over the largest possible credit, in [0, 1], as the switches define it."""
    if calls is None or not reading.calls:
        return 0.0
    ordered = config.has(Switch.REFINEDREWARD)
    if not config.takes_weights:
        if equal_lists(reading.calls, calls):
            return 1.0
        if config.has(Switch.COARSEREWARD):
            return 0.0
        return whole_share(reading.calls, calls, ordered=ordered) or 0.0
    if ordered:
        parts = _parts(reading, calls, config, ordered=True)
    return sum(parts) / sum(full_parts(reading.calls)) if parts else 0.0


def _between(bounds: Bounds, share: float) -> float:
    if share == 1.0:
        return bounds.correctness_max  # free of rounding
    spread = bounds.correctness_max - bounds.correctness_min
    return spread * share + bounds.correctness_min


def _length(text: str, rewarded_words: float | None) -> float:
    """ToolRL's length reward: words of the thought over the rewarded number, at most 1."""
    if rewarded_words is None:
        return 0.0
    num_words = thought_words(text)
    return 0.0 if num_words is None else min(1.0, round(num_words / rewarded_words, 2))


def _effective(
    weights: Mapping[str, float] | None, components: Mapping[str, float]
) -> Mapping[str, float] | None:
    """The weights, or None if none of this gold's components has one other than 1."""
    if weights is None or all(weights.get(name, 1.0) == 1.0 for name in components):
        return None
    return weights
