"""Scaffold `self_example`: examples of the policy's own in its thought (section 4.4).

ToolExpander rewards own few-shot examples and their analysis with .01; how validity is judged
(V1-V6) and the words that ask for it are our choice. Every group of the run is asked, so it stays
un-scaffolded: the bonus is shaping, and statistics, gates and mastery see the rule reward alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from etude_proto.v1 import SelfExample
from etude_sampler.curriculum.parts import Context, ScaffoldConfig
from etude_sampler.curriculum.scaffolding import Scaffolding, Served, Situation

from .plain import PlainScaffolding

ASK = """\
Inside the thought, before you decide, make up one or two examples and analyse them:
<example>
Request: a request of another user that one of these tools answers
{"name": "tool name", "parameters": {"parameter name": "value"}}
</example>
<analysis> in eight words or more, why this call answers that request </analysis>
The examples' calls stand without call tags; the answer itself comes after the thought."""


@dataclass(frozen=True, slots=True)
class SelfExampleScaffolding(PlainScaffolding):
    """Serves the same words to every task."""

    self_example: SelfExample | None = None

    def serve(self, task: Situation) -> Served:
        """The request for examples, and its bonus."""
        return Served(self_example=self.self_example)


class SelfExampleConfig(ScaffoldConfig):
    """Ask every rollout for examples of its own in the thought; valid ones earn a small bonus."""

    name: ClassVar[str] = "self_example"
    paper: ClassVar[str] = "ToolExpander 2510.07737; validity and words are ours"

    bonus: float = Field(default=0.01, ge=0.0, le=1.0)
    """Shaping of a rollout whose examples are valid. The trainer's `std_floor` must be on."""
    min_words: int = Field(default=8, ge=1, le=1000)
    """Least words of an analysis (V3)."""
    max_similarity: float = Field(default=0.8, gt=0.0, le=1.0)
    """Token Jaccard of an example's request with the user's must stay below (V5)."""
    ask: str = Field(default=ASK, min_length=1, max_length=4096)
    """Appended to the system text."""

    def build(self, context: Context) -> Scaffolding:
        """The scaffold."""
        wanted = SelfExample(
            text=self.ask,
            bonus=self.bonus,
            min_words=self.min_words,
            max_similarity=self.max_similarity,
        )
        return SelfExampleScaffolding(kind=self.name, self_example=wanted)
