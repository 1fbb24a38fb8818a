"""Tasks with an environment, from the prompt batch's item to the finished group.

Opens an environment to learn its tools, renders the first prompt, lets `groups.py` play, climbs
the ladder of a group that failed, and makes the report. Help acts on the first prompt only:
`trying.py`. Called by `episode.py`; made once a worker.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from etude_proto.tensors import GroupTrajectories
from etude_proto.v1 import Attempt, FinishReason, GroupReport, Merge, Outcome, PromptItem, Task

from ..finished import FinishedGroup
from ..guiding import guided
from ..kit import Kit, Terms
from ..outcomes import failure
from ..phases import EpisodeFailed, roll_out
from ..prompting import Prompt
from ..replacing import Replaced, replaced
from ..rewards import Scored
from ..rewards.episodes import EpisodeGold, gold_of_episode
from ..rolling import SHOWN_KINDS, rollout_seed
from ..tools.base import EnvironmentFailed
from ..tools.opening import Environments
from ..trajectories import pack_tracks
from .calls import detect_format
from .chains import Chain, Track
from .continuing import Continuer
from .groups import GroupPlay
from .options import TurnOptions
from .playing import Player, Table
from .trying import Episode, EpisodeTries


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
        tries = EpisodeTries(self._kit, table, tools, terms.reward)
        try:
            longest = self._kit.options.max_prompt_tokens
            item, prompt = guided(tries, item, max_prompt_tokens=longest)
        except EpisodeFailed:
            await session.close()
            raise
        play = GroupPlay(table, Player(table, prompt, tools), session)
        rolled = await roll_out(item, partial(self._play, play, item), _scores)
        group = tries.episodes(prompt, rolled.completions)
        bare = _attempt(item, group, num_lost=rolled.num_lost)
        climbed = None
        if item.train and not rolled.is_stopped:
            climbed = await _climbed(tries, item, group, bare=bare)
        attempts, trained, made = [bare], group, group
        if climbed is not None:
            attempts, trained = climbed.attempts, climbed.trained
            made = [*group, *climbed.made]
        return FinishedGroup(
            report=GroupReport(task_id=item.task.id, attempts=attempts),
            trajectories=None
            if not item.train or rolled.is_stopped
            else cargo_of(
                trained, group, lost=[prompt] * (len(attempts[-1].outcomes) - len(trained))
            ),
            scores=tuple(one.chain.scored for one in made if one.chain.scored is not None),
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
        if scaffold.level > 0 and scaffold.kind not in SHOWN_KINDS:
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


async def _climbed(
    tries: EpisodeTries, item: PromptItem, group: Sequence[Episode], *, bare: Attempt
) -> Replaced[Episode] | None:
    """The group after a climb; None if there is nothing to climb for, or with.

    Raises:
        EngineUnavailable: the engine is away.
    """
    ladder = item.ladder
    if ladder is None or not ladder.rungs or ladder.merge is Merge.APPEND_TURN:
        return None
    return await replaced(
        tries, ladder, group, bare=bare, outcomes=lambda samples: _outcomes(samples, item.task)
    )


def _outcomes(episodes: Sequence[Episode], task: Task) -> list[Outcome]:
    return [outcome_of(one.chain, task, shaping=one.shaping) for one in episodes]


def outcome_of(chain: Chain, task: Task, *, shaping: float = 0.0) -> Outcome:
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
        shaping=shaping,
        success=scored.success,
        finish_reason=reason,
        num_turns=len(chain.turns),
        num_tokens=chain.track.num_sampled,
        min_policy_version=min(versions, default=0),
        max_policy_version=max(versions, default=0),
    )


def cargo_of(
    trained: Sequence[Episode], group: Sequence[Episode], *, lost: Sequence[Prompt]
) -> GroupTrajectories:
    """What is trained on: each episode under its own first prompt.

    A branch whose parent was replaced is a root: it holds all of its tokens.

    Args:
        trained: in the places of `group`, unless they are all of a rung.
        group: the bare rollouts, which branches may have been cloned from.
        lost: prompts of rollouts that were never made.
    """
    tracks = [
        one.chain.track if one.is_valid else Track.of_prompt(one.prompt.token_ids)
        for one in trained
    ]
    tracks += [Track.of_prompt(prompt.token_ids) for prompt in lost]
    places = {id(one): place for place, one in enumerate(trained)}
    parents = [
        places.get(id(group[one.chain.parent]), -1) if one.chain.parent >= 0 else -1
        for one in trained
    ]
    return pack_tracks((), tracks, [*parents, *[-1] * len(lost)])


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


def _attempt(item: PromptItem, episodes: Sequence[Episode], *, num_lost: int) -> Attempt:
    """The group as it was served, before any climb."""
    parents = [one.chain.parent for one in episodes]
    return Attempt(
        scaffold_kind=item.scaffold.kind,
        scaffold_level=item.scaffold.level,
        outcomes=[
            *_outcomes(episodes, item.task),
            *[failure(FinishReason.ERROR)] * num_lost,
        ],
        num_roots=sum(parent < 0 for parent in parents) if max(parents) >= 0 else None,
    )
