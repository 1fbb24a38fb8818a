"""The curriculum of a new run: resolved from its config and the dataset, and fitted to its limits.

Neighbours: `curriculum` knows the rules; `runs` and `travel` (forks) create runs.
"""

from __future__ import annotations

from etude_proto.v1 import ProblemItem, ResolvedCurriculum, RunCreate, RunMode
from etude_proto.v1.runs import REWARD_SWITCHES, WHOLE_REWARD_SWITCHES
from etude_sampler.curriculum import (
    ConfigFault,
    build,
    check_fit,
    helps_episodes,
    lanes_by,
    moves_weights,
    reads_features,
    resolve,
    takes_bare,
)
from etude_sampler.curriculum.levels import UNKNOWN

from ..errors import PayloadInvalid
from ..ports.catalog import Catalog


async def resolve_curriculum(catalog: Catalog, spec: RunCreate) -> tuple[ResolvedCurriculum, int]:
    """The parts that a run's curriculum names, and the number of tasks that it can draw.

    Raises:
        PayloadInvalid: a curriculum field is wrong (named), or no task can be drawn.
    """
    try:
        kind = lanes_by(spec.curriculum)
    except ConfigFault as fault:
        raise _refused(fault) from fault
    counts = await catalog.dataset_subtasks(spec.dataset_id, spec.sources, lanes_by=kind)
    num_tasks = counts.pop("", 0)
    if num_tasks == 0:
        where = "/sources" if spec.sources else "/dataset_id"
        raise PayloadInvalid.at(where, "no train task can be drawn")
    if unknown := counts.pop(UNKNOWN, 0):
        raise PayloadInvalid.at(
            "/curriculum/lanes_by",
            f"{unknown} of {num_tasks} tasks have no number in [0, 1] as metadata.pass_rate",
        )
    sources: list[str] = []
    num_given = 0
    if reads_features(spec.curriculum):
        sources, num_given = await catalog.dataset_features(spec.dataset_id, spec.sources)
    try:
        resolved = resolve(
            spec.curriculum,
            dataset_subtasks=sorted(counts),
            sources=sources,
            num_given=num_given,
            group_size=spec.group_size,
            keeps_tokens=spec.mode is RunMode.TRAINING,
        )
    except ConfigFault as fault:
        raise _refused(fault) from fault
    fit(resolved, spec)
    await _check_aids(catalog, spec, resolved, num_tasks=num_tasks)
    await _check_episodes(catalog, spec, resolved, num_tasks=num_tasks)
    await _check_reward(catalog, spec, resolved, num_tasks=num_tasks)
    return resolved, num_tasks


async def _check_aids(
    catalog: Catalog, spec: RunCreate, resolved: ResolvedCurriculum, *, num_tasks: int
) -> None:
    """Raise `PayloadInvalid` if tasks lack what the run's scaffold shows."""
    scaffold = build(resolved).scaffold
    if scaffold is None or scaffold.aid is None:
        return
    found = await catalog.tasks_with_aid(
        spec.dataset_id, spec.sources, scaffold.aid, among=num_tasks
    )
    lacking = num_tasks - len(found)
    if lacking and (not found or not takes_bare(resolved)):
        raise PayloadInvalid.at(
            "/curriculum/scaffold",
            f"{lacking} of {num_tasks} tasks have no aids.{scaffold.aid}; import them with it"
            + (", or set knob `missing` to 'bare' to serve those without help" if found else ""),
        )


async def _check_episodes(
    catalog: Catalog, spec: RunCreate, resolved: ResolvedCurriculum, *, num_tasks: int
) -> None:
    """Raise `PayloadInvalid` if the workers of this service cannot help tasks played in turns."""
    scaffold = build(resolved).scaffold
    if scaffold is None or spec.mode is not RunMode.TRAINING:
        return
    helps = helps_episodes(resolved)
    if helps and (scaffold.aid != "solution" or takes_bare(resolved)):
        return
    found = await catalog.num_episodes(
        spec.dataset_id, spec.sources, among=num_tasks, solved_in_turns=helps
    )
    if not found:
        return
    if helps:
        why = (
            "and aids.solution in turns, whose calls nobody executed; give its text, or set knob "
            "`missing` to 'bare' to serve those without help"
        )
    else:
        why = f"in which scaffold {scaffold.kind!r} cannot act; choose another, or sources without"
    raise PayloadInvalid.at(
        "/curriculum/scaffold", f"{found} of {num_tasks} tasks have an environment, {why}"
    )


async def _check_reward(
    catalog: Catalog, spec: RunCreate, resolved: ResolvedCurriculum, *, num_tasks: int
) -> None:
    """Raise `PayloadInvalid` if the reward could not score what is drawn, or the weights."""
    for place, switch in enumerate(spec.reward.switches):
        if switch not in REWARD_SWITCHES:
            raise PayloadInvalid.at(
                f"/reward/switches/{place}",
                f"unknown switch {switch!r}; known: {', '.join(REWARD_SWITCHES)}",
            )
        if (
            switch in WHOLE_REWARD_SWITCHES
            and spec.credit.component_weights_in == "reward"
            and moves_weights(resolved)
        ):
            raise PayloadInvalid.at(
                f"/reward/switches/{place}",
                f"{switch} scores calls as a whole, so the component weights of allocator "
                f"{resolved.allocator.name!r} cannot act in the reward; choose another allocator, "
                "or credit.component_weights_in 'advantage'",
            )
    if spec.mode is not RunMode.TRAINING:
        return
    lacking = await catalog.num_without_reference(spec.dataset_id, spec.sources, among=num_tasks)
    if lacking:
        raise PayloadInvalid.at(
            "/dataset_id",
            f"{lacking} of {num_tasks} tasks have no reference to score against; import them with "
            "one, or choose mode 'curriculum_only', in which your framework scores",
        )


def fit(resolved: ResolvedCurriculum, spec: RunCreate) -> None:
    """Raise `PayloadInvalid` if limits or group size leave no room for the curriculum."""
    try:
        check_fit(
            resolved,
            group_size=spec.group_size,
            limits=spec.limits,
            keeps_tokens=spec.mode is RunMode.TRAINING,
        )
    except ConfigFault as fault:
        raise _refused(fault) from fault
    _check_credit(resolved, spec)


def _check_credit(resolved: ResolvedCurriculum, spec: RunCreate) -> None:
    """Raise `PayloadInvalid` if gate or mode contradict where component weights act (3.3, 3.6)."""
    gate = resolved.gate
    if (
        spec.credit.component_weights_in == "advantage"
        and gate.name == "zero_variance"
        and gate.knobs["on"] != "components"
    ):
        raise PayloadInvalid.at(
            "/curriculum/gate/knobs/on",
            "component weights in the advantage need a gate on 'components': equal rewards of "
            "unequal parts teach something",
        )
    if spec.credit.spans and spec.mode is not RunMode.TRAINING:
        raise PayloadInvalid.at("/credit/spans", "this run's reports carry no tokens to mark")


def _refused(fault: ConfigFault) -> PayloadInvalid:
    item = ProblemItem(pointer=fault.pointer, detail=fault.detail)
    return PayloadInvalid(f"{fault.pointer}: {fault.detail}", errors=[item])
