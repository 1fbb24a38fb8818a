"""Base classes and scalar types shared by every wire model.

Requests refuse unknown fields (a typo must not be silently ignored); responses ignore them (a
newer server may say more than an older client knows). What a field's own string says below it is
its description in OpenAPI.
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue


class Request(BaseModel):
    """A body that a client sends: unknown fields, NaN and infinities are refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Response(BaseModel):
    """A body that a server sends: unknown fields are ignored by older clients."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def _finite(value: JsonValue) -> JsonValue:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("numbers must be finite")
    for part in value.values() if isinstance(value, dict) else ():
        _finite(part)
    for part in value if isinstance(value, list) else ():
        _finite(part)
    return value


Json = Annotated[JsonValue, AfterValidator(_finite)]
"""Free JSON data; NaN and infinities are refused here too, for no other parser reads them."""

Text = Annotated[str, Field(max_length=1024, pattern=r"^[^\x00]*$")]
"""Free text of one line or so; without NUL, which PostgreSQL cannot store."""

Name = Annotated[
    str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._:/-]*$")
]
"""A human-chosen name: letters, digits, space and `._:/-`, not starting with punctuation."""

SubtaskName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9_]*$")]
"""Name of a sub-task or reward component, in snake_case."""

Reward = Annotated[float, Field(ge=-1e6, le=1e6)]
"""A scalar reward; bounded, so that no sum or square of rewards overflows."""

Count = Annotated[int, Field(ge=0, lt=2**31)]
"""How many of something one rollout had."""

Score = Annotated[float, Field(ge=0.0, le=1.0)]
"""A reward component's value, in [0, 1]."""

Fence = Annotated[int, Field(ge=0, lt=2**53)]
"""Monotonic claim number, (epoch << 36) + counter; exact in JSON and in Lua."""

Version = Annotated[int, Field(ge=0, lt=2**31)]
"""A policy version: the number of acked training batches."""

Id = Annotated[str, Field(min_length=3, max_length=96, pattern=r"^[a-z]+_[A-Za-z0-9_]+$")]
"""A prefixed, opaque identifier such as `run_...` or `lease_...`."""

MAX_PAGE = 1000
"""Largest `limit` of a page; a larger one is refused, never clamped."""
