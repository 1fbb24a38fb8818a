"""Scaffold `noise_docs`: how many documents are replaced, by which, and that none else is lost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from etude_proto.v1 import Aids, CurriculumConfig, Message, Part
from etude_sampler.curriculum import resolve
from etude_sampler.curriculum.scaffolding import Served
from etude_sampler.curriculum.scaffolds.noise_docs import num_replaced, replaced
from etude_sampler.curriculum.scaffolds.strangers import candidates, num_draws, strangers
from etude_sampler.statistics import Floats
from support.scaffolding import scaffold, situation


def test_half_of_four_documents_up_to_3b_and_one_from_7b() -> None:
    """4 documents, 3B: replace 2 with probability .5; from 7B 1 with probability .3."""

    def knobs(**given: object) -> tuple[object, int]:
        part = Part.model_validate({"name": "noise_docs", "knobs": given})
        config = CurriculumConfig(preset="uniform", scaffold=part)
        found = resolve(config, dataset_subtasks=["format"]).scaffold
        assert found is not None
        replace = found.knobs["replace"]
        assert replace is None or isinstance(replace, int)
        return found.knobs["rho"], num_replaced(4, replace)

    assert knobs() == (0.5, 2)
    assert knobs(model_size_b=7.0) == (0.3, 1)
    assert knobs(model_size_b=7.0, rho=0.4, replace=3) == (0.4, 3)
    assert [num_replaced(n, None) for n in (1, 2, 3, 5)] == [1, 1, 1, 2]


DOCS = ["doc a", "doc b", "doc c", "doc d"]
TEXT = "Read: doc a; doc b; doc c; doc d. Question?"


def numbers(coin: float, choice: Sequence[float], order: Sequence[float]) -> list[float]:
    return [coin, *choice, *order]


def test_chosen_documents_are_replaced_and_all_are_shuffled() -> None:
    noise = scaffold("noise_docs")
    aids = Aids(documents=DOCS)
    assert (noise.num_strangers(aids), noise.num_numbers(aids)) == (2, 9)
    chance = numbers(0.5, [0.9, 0.1, 0.8, 0.2], [0.4, 0.3, 0.2, 0.1])
    served = noise.serve(situation(aids, text=TEXT, numbers=chance, others=["new 1", "new 2"]))
    assert (served.scaffold.kind, served.scaffold.level) == ("noise_docs", 1)
    assert served.scaffold.messages is not None
    assert served.scaffold.messages[0].content == "Read: new 2; doc c; new 1; doc a. Question?"


def test_noise_comes_with_its_probability_only() -> None:
    aids = Aids(documents=DOCS)
    chance = numbers(0.51, [0.1] * 4, [0.1] * 4)
    noise = scaffold("noise_docs")
    assert noise.serve(situation(aids, text=TEXT, numbers=chance, others=["n"])) == Served()
    assert noise.serve(situation(aids, text=TEXT, numbers=[0.1] * 9)) == Served(), "no strangers"
    assert noise.serve(situation(Aids(), numbers=[0.1])) == Served()
    assert noise.num_strangers(Aids()) == 0


def test_a_new_document_that_holds_an_old_one_is_not_replaced_again() -> None:
    messages = [Message(role="user", content="a|b"), Message(role="assistant", content="none")]
    assert [m.content for m in replaced(messages, ["a", "b"], ["b!", "a!"])] == ["b!|a!", "none"]


@given(coins=st.lists(st.floats(1e-6, 1.0), min_size=9, max_size=9))
def test_no_document_is_lost_but_those_that_were_replaced(coins: list[float]) -> None:
    aids = Aids(documents=DOCS)
    noise = scaffold("noise_docs", rho=1.0)
    served = noise.serve(situation(aids, text=TEXT, numbers=coins, others=["new 1", "new 2"]))
    assert served.scaffold.messages is not None
    shown = served.scaffold.messages[0].content
    assert sorted(part in shown for part in [*DOCS, "new 1", "new 2"]) == [False] * 2 + [True] * 4
    assert shown.endswith(". Question?")


def chance_of(pairs: Sequence[tuple[float, float]]) -> Floats:
    return np.array([u for pair in pairs for u in pair])


def test_strangers_are_other_documents_each_once() -> None:
    pool = np.array([3, 8, 9])
    chance = chance_of([(0.1, 0.5), (0.4, 1.0), (0.4, 0.2), (1.0, 0.5), (1.0, 0.1)])
    tasks = candidates(pool, chance)
    assert tasks == [3, 8, 8, 9, 9]
    documents = {3: ["mine"], 8: ["x", "y"], 9: ["y", "z"]}
    found = strangers(tasks, documents, own=["mine"], numbers=chance, wanted=2)
    assert found == ["y", "x"]
    assert candidates(np.zeros(0, dtype=np.int64), chance) == []
    assert num_draws(2) == 16
