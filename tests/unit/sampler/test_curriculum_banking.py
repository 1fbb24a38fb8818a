"""The replay bank of VCRL: priority with momentum, pop of the greatest, at most two replays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude_proto.v1.curriculum import CurriculumConfig
from etude_proto.v1.runs import RunLimits
from etude_sampler.curriculum import (
    BankRule,
    ConfigFault,
    bank_of,
    build,
    check_fit,
    dated,
    resolve,
)
from etude_sampler.curriculum.banking import Bank, Banked, slots_to_fill
from etude_sampler.statistics import summarise
from support.groups import COMPONENTS, binary_group

RULE = BankRule(num_groups=3, momentum=0.9, max_replays=2)


def _group(task: int, seq: int, priority: float = 0.5, *, replays: int = 0, v: int = 0) -> Banked:
    return Banked(task, seq, v, priority, replays)


def _tasks(groups: list[Banked]) -> list[int]:
    return [one.ordinal for one in groups]


def test_priority_moves_by_a_tenth() -> None:
    """P = .9 P + .1 x; the first P is x."""
    bank = Bank(RULE)
    bank.put([_group(1, 1, 0.4375)])
    bank.note(1, 1.0)
    assert bank.ranked()[0].priority == pytest.approx(0.49375)
    bank.note(1, 0.0)
    assert bank.ranked()[0].priority == pytest.approx(0.444375)
    bank.note(2, 1.0)
    assert _tasks(bank.ranked()) == [1], "a task without a group has no priority"


def test_the_greatest_is_popped_and_of_equals_the_newest() -> None:
    bank = Bank(RULE)
    bank.put([_group(1, 1, 0.75), _group(2, 2, 1.0), _group(3, 3, 0.75)])
    assert _tasks(bank.take(2)) == [2, 3]
    assert _tasks(bank.take(5)) == [1]
    assert bank.take(1) == []


def test_a_group_is_replayed_twice_and_no_more() -> None:
    bank = Bank(RULE)
    bank.put([_group(1, 1)])
    for number in (1, 2):
        (lent,) = bank.take(1)
        assert lent.num_replays == number
        assert (len(bank), bank.put([lent])) == (0, [] if number == 1 else [lent])
    assert len(bank) == 0


def test_a_task_has_its_newest_group_only_and_keeps_its_priority() -> None:
    bank = Bank(RULE)
    first, second = _group(1, 1, 1.0), _group(1, 8, 0.5)
    bank.put([first])
    bank.note(1, 0.5)
    assert _tasks(bank.put([second])) == [1]
    assert (bank.ranked()[0].apply_seq, bank.ranked()[0].priority) == (8, 0.95)
    assert bank.put([first]) == [first], "an older one that comes back has no place"
    assert bank.ranked()[0].apply_seq == 8


def test_a_full_bank_drops_its_least() -> None:
    bank = Bank(RULE)
    out = bank.put([_group(task, task, task / 10) for task in range(1, 6)])
    assert sorted(_tasks(out)) == [1, 2]
    assert _tasks(bank.put([_group(9, 9, 0.2)])) == [9], "it may be the newcomer"


def test_old_groups_are_purged() -> None:
    bank = Bank(RULE)
    bank.put([_group(1, 1, v=3), _group(2, 2, v=4)])
    assert _tasks(bank.purge(4)) == [1]
    assert _tasks(bank.ranked()) == [2]


@pytest.mark.parametrize(
    ("ready", "dropped", "banked", "slots"),
    [(4, 3, 9, 3), (4, 9, 9, 4), (4, 9, 2, 2), (8, 9, 9, 0), (12, 9, 9, 0), (0, 0, 9, 0)],
)
def test_what_the_gate_left_empty_is_filled(
    ready: int, dropped: int, banked: int, slots: int
) -> None:
    found = slots_to_fill(8, num_ready=ready, num_dropped=dropped, num_banked=banked)
    assert found == slots


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["train", "note", "take", "back", "purge"]),
        st.integers(0, 4),
        st.sampled_from([0.0, 0.4375, 0.75, 1.0]),
    ),
    max_size=40,
)


@given(_STEPS)
def test_nothing_is_kept_twice_lost_or_replayed_too_often(
    steps: list[tuple[str, int, float]],
) -> None:
    """Whatever happens: what went in is in the bank, lent, or was given out once."""
    bank, lent, gone = Bank(RULE), list[Banked](), list[Banked]()
    for seq, (step, task, value) in enumerate(steps):
        match step:
            case "train":
                gone += bank.put([_group(task, seq, value, v=seq // 4)])
            case "note":
                bank.note(task, value)
            case "take":
                lent += bank.take(task)
            case "back":
                gone, lent = gone + bank.put(lent), []
            case _:
                gone += bank.purge(seq // 4 - 2)
        held = bank.ranked()
        assert len(held) <= RULE.num_groups
        assert len(set(_tasks(held))) == len(held)
        assert all(0.0 <= one.priority <= 1.0 for one in held)
        assert all(one.num_replays < 2 for one in held)
        assert all(one.num_replays <= 2 for one in lent)
        everywhere = [one.apply_seq for one in [*held, *lent, *gone]]
        put_in = [at for at, (name, *_) in enumerate(steps[: seq + 1]) if name == "train"]
        assert sorted(everywhere) == put_in


def test_the_preset_keeps_a_bank_where_there_are_trajectories() -> None:
    config = CurriculumConfig(preset="vcrl")
    resolved = resolve(config, dataset_subtasks=COMPONENTS)
    gate = build(resolved).gate
    assert resolved.gate.knobs["bank_groups"] == 256
    kept = bank_of(dated(gate, 99))
    assert kept is not None, "also of the later kappa"
    rule, values = kept
    assert rule == BankRule(num_groups=256, momentum=0.9, max_replays=2)
    summary = summarise(binary_group(8, 2))
    assert values.values(summary).tolist() == [0.75]
    without = resolve(config, dataset_subtasks=COMPONENTS, keeps_tokens=False)
    assert without.gate.knobs["bank_groups"] == 0
    assert bank_of(build(without).gate) is None
    assert bank_of(build(resolve(CurriculumConfig(), dataset_subtasks=COMPONENTS)).gate) is None
    stored = resolved.gate.model_copy(update={"knobs": {"kappa": 0.3, "kappa_later": 0.8}})
    older = build(resolved.model_copy(update={"gate": stored})).gate
    assert bank_of(older) is None, "a run of a release without banks goes on without"


def test_a_bank_that_could_never_replay_is_refused() -> None:
    config = CurriculumConfig.model_validate(
        {"preset": "vcrl", "gate": {"name": "vcrl", "knobs": {"bank_groups": 4}}}
    )
    with pytest.raises(ConfigFault, match="no trajectories") as found:
        resolve(config, dataset_subtasks=COMPONENTS, keeps_tokens=False)
    assert found.value.pointer == "/curriculum/gate/knobs/bank_groups"
    resolved = resolve(config, dataset_subtasks=COMPONENTS)
    limits = RunLimits(max_staleness=0)
    with pytest.raises(ConfigFault, match="one version old") as refused:
        check_fit(resolved, group_size=8, limits=limits, keeps_tokens=True)
    assert refused.value.pointer == "/limits/max_staleness"
    check_fit(resolved, group_size=8, limits=RunLimits(max_staleness=1), keeps_tokens=True)
