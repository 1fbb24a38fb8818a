"""Published results that a table is shown beside, with their source. Facts, no code.

All from ToolRL (2504.13958), in percent; whoever compares must have used the same rows and rules.
Used by `tables.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

SOURCE = "ToolRL (2504.13958): raw / SFT on 4,000 rows / GRPO from the raw model"
PUBLISHED: Mapping[str, Sequence[tuple[str, tuple[float, float, float]]]] = {
    "api-bank": (
        ("Qwen2.5-1.5B-Instruct", (30.65, 47.07, 63.15)),
        ("Qwen2.5-3B-Instruct", (51.59, 50.92, 67.00)),
        ("Qwen2.5-7B-Instruct", (62.48, 47.07, 64.66)),
        ("Llama-3.2-3B-Instruct", (40.54, 43.89, 59.13)),
    ),
    "bfcl": (
        ("Qwen2.5-1.5B-Instruct", (19.41, 40.67, 46.20)),
        ("Qwen2.5-3B-Instruct", (33.04, 41.97, 52.98)),
        ("Qwen2.5-7B-Instruct", (41.97, 36.53, 58.38)),
        ("Llama-3.2-3B-Instruct", (22.09, 44.16, 44.10)),
    ),
}
"""Overall by benchmark; BFCL is version 3, multi-turn included."""
CAUTION: Mapping[str, str] = {
    "api-bank": "an independent reproduction got 58.96 (1.5B) and 62.98 (3B) for GRPO",
    "bfcl": "version 3 with multi-turn; only for models that were not trained on BFCL rows",
}
