"""Options of a `Curriculum`, shared by all the ways to make one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, TypedDict

from .ranks import Ranks

DEFAULT_URL = "http://127.0.0.1:8321"
PATIENCE_S = 10.0
"""How long the sampler may be away before the trainer goes on without it (our choice)."""


OnOutage = Literal["wait", "uniform"]
"""While the sampler is away: wait for it, or practise rows of one's own, drawn uniformly."""


class Options(TypedDict, total=False):
    """Keyword arguments of `Curriculum`, `Curriculum.create` and `Curriculum.local`."""

    api_key: str | None
    """Default: `ETUDE_API_KEY`."""
    on_outage: OnOutage
    """`wait` (default) for a sampler that is away, or after `patience_s` go on with rows drawn
    uniformly; reports and versions are kept and delivered in both cases."""
    patience_s: float
    """See `on_outage`; default 10 s."""
    ttl_s: float | None
    """Time to live of leases between heartbeats; default: the run's."""
    worker: str | None
    """Name of this process in the run's leases; default: host and process id."""
    ranks: Ranks | None
    """Default: those of torch.distributed if it is initialised."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Options with their defaults."""

    url: str
    api_key: str | None
    on_outage: OnOutage
    patience_s: float
    ttl_s: float | None
    worker: str | None


def chosen(url: str | None, options: Options, *, has_rows: bool) -> Chosen:
    """Options with their defaults.

    Raises:
        ValueError: they make no sense.
    """
    on_outage = options.get("on_outage", "wait")
    if on_outage not in ("wait", "uniform"):
        raise ValueError(f'on_outage must be "wait" or "uniform", not {on_outage!r}')
    if on_outage == "uniform" and not has_rows:
        raise ValueError('on_outage="uniform" needs tasks: the rows to draw from')
    patience_s = options.get("patience_s", PATIENCE_S)
    if patience_s < 0:
        raise ValueError("patience_s must not be negative")
    return Chosen(
        url=url or os.environ.get("ETUDE_SAMPLER_URL") or DEFAULT_URL,
        api_key=options.get("api_key") or os.environ.get("ETUDE_API_KEY"),
        on_outage=on_outage,
        patience_s=patience_s,
        ttl_s=options.get("ttl_s"),
        worker=options.get("worker"),
    )
