"""Scores of episodes: answers, calls that had to be made, what environments judge."""

from __future__ import annotations

import pytest

from etude_rollout.rewards.episodes import (
    EpisodeFacts,
    EpisodeGold,
    MadeCall,
    gold_of_episode,
    score_episode,
    share_made,
)

A, B = MadeCall("f", {"x": 1}), MadeCall("f", {"x": 2})
GOLD = EpisodeGold(answers=("Paris", "42"), calls=(A, B))


def facts(answer: str | None = "Paris", *, made: tuple[MadeCall, ...] = (A, B)) -> EpisodeFacts:
    return EpisodeFacts(is_well_formed=True, answer=answer, calls=made)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("the  PARIS!", True),
        ("42.0", True),
        ("42.", True),
        ("4.2e1", True),
        ("42,000", False),
        ("43", False),
        ("it is Paris", False),
        ("", False),
        (None, False),
        ("9" * 100_000, False),
    ],
)
def test_answers_compare_normalised_or_as_numbers(answer: str | None, *, right: bool) -> None:
    scored = score_episode(facts(answer), GOLD)
    assert scored.components["answer"] == float(right)
    assert scored.success is right


def test_calls_count_once_each_in_any_order() -> None:
    assert share_made([A, B], [B, A]) == 1.0
    assert share_made([A, A], [A]) == 0.5
    assert share_made([A], [MadeCall("f", {"x": True})]) == 0.0, "true is not 1"
    assert share_made([A], [MadeCall("f", {"x": 1.0}), B]) == 1.0


def test_the_reward_has_toolrls_scale() -> None:
    assert score_episode(facts(), GOLD).total == 4.0
    assert score_episode(facts("no", made=()), GOLD).total == -2.0
    half = score_episode(facts("no"), GOLD)
    assert (half.total, half.components) == (1.0, {"format": 1.0, "answer": 0.0, "calls": 1.0})
    badly = EpisodeFacts(is_well_formed=False, answer="Paris", calls=(A, B))
    assert score_episode(badly, GOLD).total == 3.0
    assert not score_episode(badly, GOLD).success


def test_weights_move_what_components_are_worth() -> None:
    weights = {"format": 2.0, "answer": 3.0, "calls": 1.0}
    scored = score_episode(facts("no"), GOLD, weights=weights)
    assert scored.total == pytest.approx(2.0 + 6 * 0.25 - 3)
    for bad in ({"answer": -1.0}, {"answer": 0.0, "calls": 0.0}, {"format": float("nan")}):
        with pytest.raises(ValueError, match="weights"):
            score_episode(facts(), GOLD, weights=bad)


def test_what_the_environment_did_not_say_is_wrong() -> None:
    gold = gold_of_episode({"kind": "bfcl_turns", "turns": [["f()"]]})
    judged = EpisodeFacts(
        is_well_formed=True, answer=None, calls=(), judged={"state": 1.0, "other": 1.0}
    )
    scored = score_episode(judged, gold)
    assert scored.components == {"format": 1.0, "state": 1.0, "response": 0.0}
    assert scored.total == 1.0


def test_the_gold_of_an_episode() -> None:
    calls = [{"name": "f", "parameters": {"x": 1}}]
    told = {"kind": "episode", "answers": ["42"], "calls": calls}
    assert gold_of_episode(told) == EpisodeGold(answers=("42",), calls=(A,))
    assert gold_of_episode({"kind": "episode", "answers": ["42"]}) == EpisodeGold(answers=("42",))


def test_other_golds_do_not_judge_episodes() -> None:
    with pytest.raises(ValueError, match="response"):
        gold_of_episode({"kind": "response"})
