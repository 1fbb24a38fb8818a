"""Tasks with an environment, from the prompt batch's item to the finished group.

Opens an environment to learn its tools, renders the first prompt, lets `groups.py` play, and makes
the report: one attempt without a scaffold. Ladders are not climbed here, and demonstrations and own
examples are not shown: what they would mean in mid-episode is not settled (our choice). Called by
`episode.py`; made once a worker.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from etude_proto.v1 import Attempt, FinishReason, GroupReport, Outcome, PromptItem, Task

from ..finished import FinishedGroup
from ..kit import Kit, Terms
from ..outcomes import failure
from ..phases import EpisodeFailed, roll_out
from ..rewards import Scored
from ..rewards.episodes import EpisodeGold, gold_of_episode
from ..rolling import FEW_SHOT, rollout_seed
from ..tools.base import EnvironmentFailed
from ..tools.opening import Environments
from ..trajectories import pack_tracks
from .calls import detect_format
from .chains import Chain, Track
from .continuing import Continuer
from .groups import GroupPlay
from .options import TurnOptions
from .playing import Player, Table


class TurnEpisodes:
    """Plays tasks with one engine, one prompter and one set of environments."""

    def __init__(self, kit: Kit, environments: Environments, options: TurnOptions) -> None:
        self._kit = kit
        self._environments = environments
        self._options = options
        self._continuer = Continuer(kit.prompter)
        self._form = (
            detect_format(
                kit.prompter.tokenizer.chat_template,
                explains_format=kit.prompter.explains_format,
            )
            if options.call_format == "auto"
            else options.call_format
        )

    async def run(self, item: PromptItem, terms: Terms) -> FinishedGroup:
        """The group of one task.

        Raises:
            EpisodeFailed: no rollout could be begun or scored.
            EngineUnavailable: the engine is away; nothing is known about the task.
        """
        started = time.monotonic()
        table = self._table(item, terms)
        try:
            session = await table.open_session()
        except EnvironmentFailed as failed:
            raise EpisodeFailed(failed.reason, failed.detail) from failed
        tools = table.shown_tools(session)
        try:
            prompt = self._kit.prompt(table.dialogue, table.shown_tools(session))
        except EpisodeFailed:
            await session.close()
            raise
        play = GroupPlay(table, Player(table, prompt, tools), session)
        rolled = await roll_out(item, partial(self._play, play, item), _scores)
        outcomes = [outcome_of(chain, item.task) for chain in rolled.completions]
        outcomes += [failure(FinishReason.ERROR)] * rolled.num_lost
        return FinishedGroup(
            report=_report(item, rolled.completions, outcomes),
            trajectories=None
            if not item.train or rolled.is_stopped
            else pack_tracks(
                prompt.token_ids,
                [*(_trained(chain) for chain in rolled.completions), *[None] * rolled.num_lost],
                [*(chain.parent for chain in rolled.completions), *[-1] * rolled.num_lost],
            ),
            scores=tuple(c.scored for c in rolled.completions if c.scored is not None),
            generate_s=time.monotonic() - started,
            score_s=0.0,
        )

    async def _play(self, play: GroupPlay, item: PromptItem, num: int, first: int) -> list[Chain]:
        """Rollouts of one phase. Branches need the whole budget: screened tasks have none."""
        rule = self._options.branching
        if rule is None or item.screen is not None:
            return await play.play(num, first)
        return await play.play_branching(num, rule)

    def _table(self, item: PromptItem, terms: Terms) -> Table:
        """
        Raises:
            EpisodeFailed: there is no gold, or an unknown scaffold.
        """
        spec, scaffold = item.task.environment, item.scaffold
        assert spec is not None
        if scaffold.level > 0 and scaffold.kind not in (FEW_SHOT, "noise_docs"):
            raise EpisodeFailed(
                FinishReason.ERROR, f"scaffold {scaffold.kind!r} is not known to this worker"
            )
        options = self._kit.options
        return Table(
            engine=self._kit.engine,
            continuer=self._continuer,
            environments=self._environments,
            options=self._options,
            form=self._form,
            sampling=options.sampling,
            item=item,
            spec=spec,
            dialogue=item.task.messages if scaffold.messages is None else scaffold.messages,
            gold=_gold(item.task),
            weights=terms.component_weights,
            seed_of=lambda stream: rollout_seed(options.seed, terms.run_seed, item, stream=stream),
            timeout_s=options.timeout_s,
            vocab_size=self._kit.engine.info.vocab_size or len(self._kit.prompter.tokenizer),
        )


async def _scores(chains: Sequence[Chain]) -> list[Scored]:
    """Scores for the first phase's decision; an episode that failed counts for nothing there."""
    lost = Scored(0.0, 0.0, 0.0, 0.0, {}, success=False, num_gold_calls=0, num_gold_params=0)
    return [chain.scored or lost for chain in chains]


def outcome_of(chain: Chain, task: Task) -> Outcome:
    """What the sampler learns of an episode."""
    scored, reason = chain.scored, chain.finish_reason
    if scored is None or not reason.is_valid:
        return failure(FinishReason.ERROR if reason.is_valid else reason)
    versions = chain.track.sampled_versions
    return Outcome(
        components={
            **{name: float(scored.success) for name in task.subtasks},
            **scored.components,
        },
        reward=scored.total,
        success=scored.success,
        finish_reason=reason,
        num_turns=len(chain.turns),
        num_tokens=chain.track.num_sampled,
        min_policy_version=min(versions, default=0),
        max_policy_version=max(versions, default=0),
    )


def _trained(chain: Chain) -> Track | None:
    return chain.track if chain.scored is not None else None


def _gold(task: Task) -> EpisodeGold:
    """
    Raises:
        EpisodeFailed: the task has no gold, or one that does not judge episodes.
    """
    if task.reference is None:
        raise EpisodeFailed(FinishReason.ERROR, "the task has no reference to score against")
    try:
        return gold_of_episode(task.reference.model_dump(mode="json"))
    except ValueError as error:
        raise EpisodeFailed(FinishReason.ERROR, str(error)) from error


def _report(item: PromptItem, chains: Sequence[Chain], outcomes: Sequence[Outcome]) -> GroupReport:
    """One attempt; demonstrations that were not shown are not reported."""
    has_branches = any(chain.parent >= 0 for chain in chains)
    is_shown = item.scaffold.kind not in ("none", FEW_SHOT)
    attempt = Attempt(
        scaffold_kind=item.scaffold.kind if is_shown else "none",
        scaffold_level=item.scaffold.level if is_shown else 0,
        outcomes=list(outcomes),
        num_roots=sum(chain.parent < 0 for chain in chains) if has_branches else None,
    )
    return GroupReport(task_id=item.task.id, attempts=[attempt])
