"""`etude simulate`: compare strategies on the simulated learner.

Runs spread over processes, seed by seed; tables or one JSON object come out. Neighbours:
`simulation` has the learner and the protocol, `simulate_plot` draws the curves.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from . import simulate_calibration
from .cli_options import AsJson, fail
from .nearest import unknown
from .simulate_plot import PlotFault, check_plot, plot
from .simulation import (
    BASELINE,
    NUM_SEEDS,
    ORACLES,
    TARGET,
    Estimate,
    Outcome,
    Plan,
    Result,
    arms_of,
    compare,
    simulate,
    strategy_names,
)

NOTE = "A simulated learner: it compares strategies and says nothing about language models."
MAX_SEEDS = 1000


def simulate_command(  # noqa: PLR0917 - options, by name
    strategies: Annotated[
        str | None,
        typer.Option(help="Names, with commas between; `etude strategies` lists them [all]."),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, max=MAX_SEEDS, help="Worlds, 0 to N - 1; fewer than 10 are few.")
    ] = NUM_SEEDS,
    budget: Annotated[
        int, typer.Option(help="Rollouts of every strategy; a multiple of 512.")
    ] = Plan().budget,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes [all cores].")] = None,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", help="Draw the curves into this PNG.")
    ] = None,
    calibration: Annotated[
        bool,
        typer.Option("--calibration", help="Instead: how well `etude` predicts the tasks."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare strategies on a simulated learner, on equal rollout budgets.

    Every strategy draws through the parts that serve real runs and meets the same worlds. `uniform`
    and two oracles that know the truth are always among them: the oracles bound what knowing the
    difficulty can buy. Intervals are 95 %, over seeds; differences to uniform are paired, and one
    whose interval holds 0 shows nothing. It says nothing about language models.

    Example: `etude simulate --strategies dscl,learnability --seeds 10`
    """
    if calibration and strategies is not None:
        raise fail("--calibration is of preset etude alone: leave --strategies out")
    names = _names(strategies)
    try:
        plan = Plan(budget=budget)
    except ValueError as error:
        raise fail(str(error)) from error
    if plot_file is not None:
        try:
            check_plot(plot_file)
        except PlotFault as error:
            raise fail(str(error)) from error
    num_workers = workers or os.cpu_count() or 1
    if calibration:
        _calibrate(seeds, plan, workers=num_workers, plot_file=plot_file, as_json=as_json)
        return
    arms = arms_of(names)
    outcomes = run_all(arms, seeds, plan, workers=num_workers)
    results = compare(outcomes)
    if plot_file is not None:
        plot(outcomes, plot_file, target=TARGET, note=NOTE)
    if as_json:
        typer.echo(json.dumps(document(results, seeds=seeds, plan=plan)))
        return
    show(results, seeds=seeds, plan=plan)


def _calibrate(
    seeds: int, plan: Plan, *, workers: int, plot_file: Path | None, as_json: bool
) -> None:
    """Forecasts of `etude` against what came."""
    runs = simulate_calibration.forecast_all(seeds, plan, workers=min(workers, seeds))
    if plot_file is not None:
        simulate_calibration.draw(runs, plot_file)
    if as_json:
        typer.echo(simulate_calibration.document(runs, plan=plan, note=NOTE))
        return
    simulate_calibration.show(runs, note=NOTE)


def _names(given: str | None) -> list[str]:
    """The strategies asked for; leaves with exit code 2 if one is unknown."""
    known = strategy_names()
    if given is None:
        return known
    names = [name.strip() for name in given.split(",") if name.strip()]
    if not names:
        raise fail("--strategies names none")
    for name in names:
        if name not in known:
            raise fail(f"{unknown('strategy', name, known)} (`etude strategies` lists all)")
    return names


def run_all(arms: Sequence[str], num_seeds: int, plan: Plan, *, workers: int) -> list[Outcome]:
    """Every arm on seeds 0..num_seeds-1, in the order of the arms, with progress on stderr."""
    jobs = [(arm, seed) for arm in arms for seed in range(num_seeds)]
    done: dict[tuple[str, int], Outcome] = {}
    with _progress() as progress:
        task = progress.add_task("runs", total=len(jobs))
        for outcome in _outcomes(jobs, plan, workers=min(workers, len(jobs))):
            done[(outcome.strategy, outcome.seed)] = outcome
            progress.advance(task)
            if not progress.console.is_terminal and len(done) % max(1, len(jobs) // 10) == 0:
                typer.echo(f"{len(done)} of {len(jobs)} runs", err=True)
    return [done[job] for job in jobs]


def _outcomes(jobs: Sequence[tuple[str, int]], plan: Plan, *, workers: int) -> Iterator[Outcome]:
    """Outcomes as they come; in this process for one worker."""
    if workers == 1:
        for arm, seed in jobs:
            yield simulate(arm, seed, plan)
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_quiet)
    try:
        for future in as_completed([pool.submit(simulate, arm, seed, plan) for arm, seed in jobs]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _quiet() -> None:
    """Leave Ctrl-C to the parent process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    return Progress(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal)


def document(results: Sequence[Result], *, seeds: int, plan: Plan) -> dict[str, object]:
    """What `--json` prints; a mean is null if a seed has no value (the target was not reached)."""
    return {
        "note": NOTE,
        "budget": plan.budget,
        "batch_tasks": plan.batch_tasks,
        "group_size": plan.group_size,
        "target": TARGET,
        "seeds": list(range(seeds)),
        "results": [
            {
                "strategy": one.strategy,
                "kind": "oracle" if one.strategy in ORACLES else "preset",
                **_estimates(one.metrics),
                "difference_to_uniform": _estimates(one.versus_baseline),
                "gap_closed": _estimates(one.gap_closed),
            }
            for one in results
        ],
    }


def _estimates(named: Mapping[str, Estimate]) -> dict[str, object]:
    """Estimates as JSON."""
    return {
        name: {
            "mean": one.mean,
            "ci95": None if one.low is None else [one.low, one.high],
            "num_seeds": one.num_seeds,
            "values": list(one.values),
        }
        for name, one in named.items()
    }


_MASTERY = ("mastery_rms", "mastery_bias", "mastery_within", "ema_rms")


def show(results: Sequence[Result], *, seeds: int, plan: Plan) -> None:
    """Tables for people: what rollouts buy, what steps and draws look like, and mastery."""
    console = Console(width=None if sys.stdout.isatty() else 132)
    console.print(
        f"{plan.budget} rollouts, {plan.batch_tasks} tasks x {plan.group_size} a batch, "
        f"{seeds} seeds, target {TARGET:g}, 95 % intervals; * excludes 0."
    )
    console.print(NOTE)
    table = Table("strategy", "final success", "area", "area - uniform", "rollouts to target")
    for column in ("rollouts - uniform", "gap closed: rollouts", "area"):
        table.add_column(column)
    for one in results:
        versus, gap = one.versus_baseline, one.gap_closed
        area, rollouts = "area_under_curve", "rollouts_to_target"
        table.add_row(
            one.strategy,
            _text(one.metrics["final_success"], ".3f"),
            _text(one.metrics[area], ".4f"),
            "" if one.strategy == BASELINE else _text(versus[area], "+.4f", test=True),
            _text(one.metrics[rollouts], ",.0f", of=seeds),
            "" if one.strategy == BASELINE else _text(versus[rollouts], "+,.0f", test=True),
            *("" if one.strategy == BASELINE else _percent(gap.get(name)) for name in gap),
        )
    console.print(table)
    table = Table("strategy", "informative", "steps", "steps to target", "never served")
    for column in ("not in last quarter", "mastery error"):
        table.add_column(column)
    for one in results:
        table.add_row(
            one.strategy,
            _text(one.metrics["informative_share"], ".3f"),
            _text(one.metrics["num_steps"], ".0f"),
            _text(one.metrics["steps_to_target"], ".1f", of=seeds),
            _text(one.metrics["never_served"], ".3f"),
            _text(one.metrics["not_served_last_quarter"], ".3f"),
            _text(one.metrics["mastery_error"], ".3f"),
        )
    console.print(table)
    table = Table("mastery", "rms error", "bias", "within .02", "rms error of M")
    for one in results:
        table.add_row(one.strategy, *(_text(one.metrics[name], ".4f") for name in _MASTERY))
    console.print(table)


def _text(one: Estimate, form: str, *, test: bool = False, of: int = 0) -> str:
    """`0.395 +-0.002`, with * if the interval excludes 0; how many of `of` seeds, if not all."""
    if one.mean is None:
        return f"not reached ({one.num_seeds} of {of})" if of else "-"
    text = format(one.mean, form)
    if one.low is None or one.high is None:
        return text
    star = "*" if test and not one.low <= 0.0 <= one.high else ""
    return f"{text} ±{format((one.high - one.low) / 2, form.lstrip('+'))}{star}"


def _percent(one: Estimate | None) -> str:
    return "-" if one is None or one.mean is None else f"{one.mean:.0%}"
