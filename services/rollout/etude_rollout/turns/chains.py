"""One rollout while it grows: its tokens, its turns, its environment. Moved by `playing.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from etude_proto.v1 import FinishReason

from ..engines.base import Completion
from ..rewards.episodes import MadeCall
from ..rewards.scored import Scored
from ..tools.session import Session
from ..trajectories import PROMPT_VERSION
from .calls import Turn


@dataclass(slots=True)
class Track:
    """Tokens of an episode and what is known of each; four lists of one length."""

    token_ids: list[int]
    is_sampled: list[bool]
    logprobs: list[float]
    """0 where not sampled."""
    versions: list[int]
    """-1 where not sampled."""

    @classmethod
    def of_prompt(cls, token_ids: Sequence[int]) -> Track:
        """A track that holds a prompt."""
        track = cls([], [], [], [])
        track.add_given(token_ids)
        return track

    def add_given(self, token_ids: Sequence[int]) -> None:
        """Tokens that the policy did not produce: observations, the user's turns."""
        self.token_ids += token_ids
        self.is_sampled += [False] * len(token_ids)
        self.logprobs += [0.0] * len(token_ids)
        self.versions += [PROMPT_VERSION] * len(token_ids)

    def add_sampled(self, completion: Completion) -> None:
        """What the policy said."""
        self.token_ids += completion.token_ids
        self.is_sampled += [True] * len(completion.token_ids)
        self.logprobs += completion.logprobs
        self.versions += completion.versions

    def copy(self) -> Track:
        """An independent copy."""
        return Track(
            list(self.token_ids), list(self.is_sampled), list(self.logprobs), list(self.versions)
        )

    @property
    def num_sampled(self) -> int:
        """Tokens of the policy."""
        return sum(self.is_sampled)

    @property
    def sampled_versions(self) -> list[int]:
        """Policy versions of the sampled tokens."""
        return [v for v, own in zip(self.versions, self.is_sampled, strict=True) if own]


@dataclass(slots=True)
class Chain:
    """A rollout in progress, or finished."""

    number: int
    """Its place in the group."""
    session: Session
    track: Track
    deadline_s: float
    """When its time is up, by the event loop's clock."""
    parent: int = -1
    """The rollout that it was cloned from; -1 for a root."""
    turns: list[Turn] = field(default_factory=list)
    first_text: str = ""
    """All of the first turn, as it was said."""
    made: list[MadeCall] = field(default_factory=list)
    """Calls that were executed without an error."""
    num_calls: int = 0
    num_call_turns: int = 0
    request: int = 0
    """User's turns that are answered."""
    start_entropy: float | None = None
    """H of the first completion (ARPO)."""
    follows_tools: bool = False
    """Whether the last thing it was told is tools' answers."""
    ended: FinishReason | None = None
    """How; null while it goes on."""
    detail: str = ""
    """Why infrastructure failed."""
    scored: Scored | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be said."""
        return self.ended is not None

    @property
    def finish_reason(self) -> FinishReason:
        """How it ended; what nobody ended is an infrastructure failure."""
        return self.ended or FinishReason.ERROR

    def clone(self, number: int, session: Session) -> Chain:
        """The same rollout so far, under another number and with its own environment."""
        return Chain(
            number=number,
            session=session,
            track=self.track.copy(),
            deadline_s=self.deadline_s,
            parent=self.number,
            turns=list(self.turns),
            first_text=self.first_text,
            made=list(self.made),
            num_calls=self.num_calls,
            num_call_turns=self.num_call_turns,
            request=self.request,
            start_entropy=self.start_entropy,
            follows_tools=self.follows_tools,
        )
