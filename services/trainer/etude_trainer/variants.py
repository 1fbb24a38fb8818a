"""Objectives by name: what `[objective] variant` fills in (algorithms.md, section 7).

A variant is a choice of ratio, advantage and aggregation; whatever a file says itself wins. Read
by `config/__init__.py`, as `presets.py` is.
"""

from __future__ import annotations

from typing import Final, Literal

VariantName = Literal["grpo", "dr_grpo", "bnpo", "dapo", "gspo"]

VARIANTS: Final[dict[str, dict[str, dict[str, object]]]] = {
    # 2402.03300: every sequence alike.
    "grpo": {
        "objective": {"ratio": "token", "aggregation": "sequence_mean"},
        "advantage": {"kind": "grpo"},
    },
    # 2503.20783: no division, by a group's deviation or by a sequence's length.
    "dr_grpo": {
        "objective": {"ratio": "token", "aggregation": "dr_grpo"},
        "advantage": {"kind": "dr_grpo", "std_floor": 0.0},
    },
    # Local normalisation, as released trainers have it; a design input, no paper is named for it.
    "bnpo": {
        "objective": {"ratio": "token", "aggregation": "local_token_mean"},
        "advantage": {"kind": "grpo"},
    },
    # 2503.14476: every token alike.
    "dapo": {
        "objective": {"ratio": "token", "aggregation": "token_mean"},
        "advantage": {"kind": "grpo"},
    },
    # 2507.18071: a sequence's ratio is a mean, so its clip is of another order than a token's.
    # The constants are a design input.
    "gspo": {
        "objective": {
            "ratio": "sequence",
            "aggregation": "sequence_mean",
            "clip_low": 3e-4,
            "clip_high": 4e-4,
        },
        "advantage": {"kind": "grpo"},
    },
}
"""Variant -> table -> values."""


def apply_variant(
    preset: dict[str, dict[str, object]], given: dict[str, object]
) -> dict[str, dict[str, object]]:
    """A preset's values with the variant's that it, or the file, names.

    A file that gives a ratio or an aggregation of its own, and no variant, has left the preset's.

    Args:
        preset: table -> values.
        given: the file's tables as parsed, not yet validated.
    """
    merged = {table: dict(values) for table, values in preset.items()}
    own = given.get("objective")
    own = own if isinstance(own, dict) else {}
    objective = merged.setdefault("objective", {})
    name = own.get("variant")
    chosen = name if isinstance(name, str) else None
    for table, values in VARIANTS.get(str(objective.get("variant")), {}).items():
        merged[table] = {**values, **merged.get(table, {})}
    if chosen is not None:
        for table, values in VARIANTS.get(chosen, {}).items():
            merged[table] = {**merged.get(table, {}), **values}
    elif own.keys() & {"ratio", "aggregation"}:
        merged["objective"].pop("variant", None)
    return merged
