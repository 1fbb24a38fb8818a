"""Options of a `Curriculum`, shared by all the ways to make one."""

from __future__ import annotations

import difflib
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypedDict

from pydantic import ValidationError

from etude_proto.v1 import PromptBatchRequest

from .ranks import Ranks

if TYPE_CHECKING:
    from etude_proto.rows.columns import Columns

DEFAULT_URL = "http://127.0.0.1:8321"
SAVE_S = 3600.0
"""Longest wait of a checkpoint for a sampler that is away, where training waits for it, too (our
choice): saved without it, a step can be resumed from only if the run does not go on."""
PATIENCE_S = 10.0
"""How long the sampler may be away before the trainer goes on without it (our choice)."""
TTL_S = 600.0
"""Time to live of leases between heartbeats (our choice): an outage of minutes costs no report, and
the tasks of a trainer that died come round again after it, or at once if the trainer resumes."""
HOLD_S = 3600.0
"""A lease is given up after so long without report or release (our choice)."""

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
    """Time to live of leases between heartbeats; default 600 s. What is reported later than that
    after the sampler went away, or after native code stopped every thread of this process by
    holding the interpreter, does not count."""
    hold_s: float
    """Longest time from drawing a batch to reporting it; default an hour. Then its tasks come
    round again."""
    worker: str | None
    """Name of this process in the run's leases; default: host and process id."""
    columns: Columns | None
    """Which column of `tasks` is what, for example `{"prompt": "question", "answer": "final"}`; by
    default rows of known shapes are recognised (docs/how-to/your-data.md)."""
    ranks: Ranks | None
    """Default: those of torch.distributed if it is initialised."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Options with their defaults."""

    url: str
    api_key: str | None
    on_outage: OnOutage
    patience_s: float
    ttl_s: float
    hold_s: float
    worker: str | None

    @property
    def save_patience_s(self) -> float:
        """How long a checkpoint waits for a sampler that is away."""
        return self.patience_s if self.on_outage == "uniform" else max(SAVE_S, self.patience_s)


def chosen(url: str | None, options: Options, *, has_rows: bool) -> Chosen:
    """Options with their defaults.

    Raises:
        TypeError: there is no such option.
        ValueError: they make no sense.
    """
    for name in options:
        if name not in Options.__annotations__:
            near = difflib.get_close_matches(name, Options.__annotations__, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise TypeError(f"a Curriculum has no option {name!r}{hint}")
    if options.get("columns") is not None and not has_rows:
        raise ValueError("columns says what the columns of `tasks` are: give tasks too")
    on_outage = options.get("on_outage", "wait")
    if on_outage not in ("wait", "uniform"):
        raise ValueError(f'on_outage must be "wait" or "uniform", not {on_outage!r}')
    if on_outage == "uniform" and not has_rows:
        raise ValueError('on_outage="uniform" needs tasks: the rows to draw from')
    patience_s = options.get("patience_s", PATIENCE_S)
    if not 0 <= patience_s < math.inf:
        raise ValueError(f"patience_s must be finite and not negative, not {patience_s}")
    hold_s = options.get("hold_s", HOLD_S)
    if not 0 < hold_s < math.inf:
        raise ValueError(f"hold_s must be finite and positive, not {hold_s}")
    ttl_s, worker = options.get("ttl_s"), options.get("worker")
    _check_lease(ttl_s, worker)
    return Chosen(
        url=url or os.environ.get("ETUDE_SAMPLER_URL") or DEFAULT_URL,
        api_key=options.get("api_key") or os.environ.get("ETUDE_API_KEY"),
        on_outage=on_outage,
        patience_s=patience_s,
        ttl_s=TTL_S if ttl_s is None else ttl_s,
        hold_s=hold_s,
        worker=worker,
    )


def _check_lease(ttl_s: float | None, worker: str | None) -> None:
    """What the sampler would refuse in the first call is refused here."""
    try:
        PromptBatchRequest(num_tasks=1, worker=worker or "worker", ttl_s=ttl_s)
    except ValidationError as error:
        (first, *_) = error.errors()
        raise ValueError(f"{first['loc'][0]}: {first['msg']}, not {first['input']!r}") from error
