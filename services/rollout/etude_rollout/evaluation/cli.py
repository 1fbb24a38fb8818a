"""`etude-rollout eval ...`: benchmarks and the quantisation gate. The package's `cli.py` mounts it.

Exit codes: 0 done (PASS and WARN too), 1 BLOCK, 2 a wrong argument or file, 3 an engine that is
away or failed on some items, 130 after Ctrl-C or SIGTERM. After 3 and 130 the same command goes on.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError

from etude_client.commands import CommandFailed

from ..engines.base import EngineError, EngineUnavailable
from ..prompting import PromptError
from ..settings import RolloutSettings
from .api_bank import ApiBank
from .bfcl import Bfcl, categories_of
from .items import Benchmark, EvaluationError, Split
from .progress import Progress
from .running import MAX_NEW_TOKENS, Evaluated, Plan, evaluate, rescore
from .summary import Summary
from .tables import gate_lines, score_lines
from .validation import append, validation_line

EXIT_BLOCK, EXIT_CONFIG, EXIT_ENGINE, EXIT_STOPPED = 1, 2, 3, 130
DEFAULT_OUT = Path(".etude/eval")
_RUN_NAME = re.compile(r"[\w.-]+")
"""It becomes part of a file's name."""

evaluation = typer.Typer(
    help="Evaluate a model on API-Bank or BFCL, and compare a quantised model with the full one. "
    "Answers are kept as they come; a second run goes on.",
    no_args_is_help=True,
)

Model = Annotated[
    Path | None, typer.Option(help="Model directory (ETUDE_MODEL_PATH); with --url its tokenizer.")
]
Url = Annotated[
    str | None,
    typer.Option(help="A running vLLM server to ask; default: ETUDE_ENGINE of this process."),
]
Limit = Annotated[
    int | None, typer.Option(min=1, help="At most so many items of each domain, drawn by the seed.")
]
Seed = Annotated[int, typer.Option(min=0, help="Of the sample and of every answer.")]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="Longest answer.")]
Out = Annotated[
    Path | None, typer.Option(help="Folder of answers and summary; default: below .etude/eval.")
]
Run = Annotated[
    str | None,
    typer.Option(
        help="Name of the run that the policy is of: the mean is also added to the run's file of "
        "results. Nothing is sent to the sampler."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")]
ScoreOnly = Annotated[
    bool, typer.Option("--score-only", help="Judge the answers that are there again; no engine.")
]
IsGold = Annotated[
    bool, typer.Option("--gold", help="Answer with the gold: checks everything but a model.")
]


@dataclass(frozen=True, slots=True)
class Asked:
    """The options that both benchmarks have."""

    model: Path | None
    url: str | None
    limit: int | None
    seed: int
    max_new_tokens: int
    out: Path | None
    run: str | None
    as_json: bool
    score_only: bool
    is_gold: bool


@evaluation.command("api-bank")
def api_bank(  # noqa: PLR0913, PLR0917 - options of a command, by name
    data: Annotated[
        Path, typer.Option(help="Folder with ToolRL's level-{1,2,3}-api_processed.json.")
    ],
    model: Model = None,
    url: Url = None,
    limit: Limit = None,
    seed: Seed = 0,
    max_new_tokens: MaxNewTokens = MAX_NEW_TOKENS,
    out: Out = None,
    run: Run = None,
    as_json: AsJson = False,
    score_only: ScoreOnly = False,
    is_gold: IsGold = False,
) -> None:
    """API-Bank by ToolRL's rules: next to greedy, right if any call equals the gold's.

    Exits with 0 when all is answered, 2 for a wrong argument, 3 when the engine was away or failed
    on some items, 130 after Ctrl-C; after the last two the same command goes on.
    """
    asked = Asked(model, url, limit, seed, max_new_tokens, out, run, as_json, score_only, is_gold)
    _evaluate(asked, lambda: ApiBank(data))


@evaluation.command("bfcl")
def bfcl(  # noqa: PLR0913, PLR0917 - options of a command, by name
    categories: Annotated[
        str,
        typer.Option(
            help="Names with commas; for several: all, single_turn, non_live, live, multi_turn."
        ),
    ] = "all",
    split: Annotated[
        str, typer.Option(help="all, train or held_out: sides of the split of `etude import bfcl`.")
    ] = "all",
    none_tool: Annotated[
        bool, typer.Option(help="Tell the model to name the tool None if no tool fits (ToolRL).")
    ] = True,
    model: Model = None,
    url: Url = None,
    limit: Limit = None,
    seed: Seed = 0,
    max_new_tokens: MaxNewTokens = MAX_NEW_TOKENS,
    out: Out = None,
    run: Run = None,
    as_json: AsJson = False,
    score_only: ScoreOnly = False,
    is_gold: IsGold = False,
) -> None:
    """BFCL by its own checker (package bfcl-eval), read as ToolRL reads answers.

    A model that was trained on an import of BFCL may only be judged by --split held_out. Exit codes
    are those of api-bank.
    """
    asked = Asked(model, url, limit, seed, max_new_tokens, out, run, as_json, score_only, is_gold)
    side: Split | None = None
    if split in ("train", "held_out"):
        side = "train" if split == "train" else "held_out"
    elif split != "all":
        _refuse(f"--split is all, train or held_out, not {split!r}")

    def benchmark() -> Benchmark:
        return Bfcl(categories_of(categories), hint=none_tool, split=side)

    _evaluate(asked, benchmark)


@evaluation.command("compare")
def compare_answers(
    full: Annotated[Path, typer.Argument(help="Answers of the full model (answers.jsonl).")],
    quantised: Annotated[Path, typer.Argument(help="Answers of the quantised one.")],
    as_json: AsJson = False,
) -> None:
    """May a quantised model take the full one's place? PASS and WARN exit with 0, BLOCK with 1.

    BLOCK: the drop is over 1 point of all items, or over 2 points of a domain, and its 95 %
    bootstrap interval excludes 0. WARN: over a bound, but the interval holds 0. Files that cannot
    be compared exit with 2.
    """
    from .gate import compare

    try:
        comparison = compare(full, quantised)
    except EvaluationError as error:
        _refuse(str(error))
    if as_json:
        typer.echo(comparison.model_dump_json(indent=2))
    else:
        for line in gate_lines(comparison):
            typer.echo(line)
    raise typer.Exit(EXIT_BLOCK if comparison.verdict == "BLOCK" else 0)


def _evaluate(asked: Asked, make_benchmark: Callable[[], Benchmark]) -> None:
    """Run a command's evaluation and end with its exit code."""
    settings = _settings(asked.model)
    if asked.url is not None and not asked.url.startswith(("http://", "https://")):
        _refuse(f"--url must begin with http:// or https://, not {asked.url!r}")
    if asked.run is not None and not _RUN_NAME.fullmatch(asked.run):
        _refuse(f"--run must be a run's name or id, not {asked.run!r}")
    try:
        benchmark = make_benchmark()
        plan = _plan(asked, settings, benchmark)
        if asked.score_only:
            summary = rescore(plan.out, benchmark, limit=plan.limit, run=plan.run)
            unanswered: list[str] = []
        else:
            evaluated = asyncio.run(_until_stopped(plan, benchmark))
            summary = evaluated.summary
            unanswered = [f"{each.id}: {each.reason}" for each in evaluated.unanswered]
    except EngineUnavailable as error:
        _end(f"{error}; the same command goes on when it is back", EXIT_ENGINE)
    except (EvaluationError, EngineError, PromptError) as error:
        _refuse(str(error))
    except asyncio.CancelledError:
        _end("stopped; the same command goes on", EXIT_STOPPED)
    _show(summary, as_json=asked.as_json)
    if asked.run is not None and not asked.is_gold:
        _add_result(summary, asked.run)
    if unanswered:
        _end(f"{len(unanswered)} items are open, first {unanswered[0]}", EXIT_ENGINE)


async def _until_stopped(plan: Plan, benchmark: Benchmark) -> Evaluated:
    """Evaluate; SIGINT and SIGTERM cancel, so that engines are stopped and the file is whole."""
    loop = asyncio.get_running_loop()
    progress = Progress(plan.out)
    task = asyncio.create_task(evaluate(plan, benchmark, on_answer=progress))
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _plan(asked: Asked, settings: RolloutSettings, benchmark: Benchmark) -> Plan:
    name = "gold" if asked.is_gold else settings.model_path.resolve().name
    if asked.url is not None and asked.model is None:
        name = asked.url.partition("//")[2].strip("/").replace("/", "-").replace(":", "-")
    return Plan(
        settings=settings,
        out=asked.out or DEFAULT_OUT / f"{benchmark.name}-{name}-{settings.dtype}",
        url=asked.url,
        has_model=asked.model is not None,
        is_gold=asked.is_gold,
        max_new_tokens=asked.max_new_tokens,
        seed=asked.seed,
        limit=asked.limit,
        concurrency=settings.engine_max_rows,
        run=asked.run,
    )


def _show(summary: Summary, *, as_json: bool) -> None:
    if as_json:
        typer.echo(summary.model_dump_json(indent=2))
        return
    for line in score_lines(summary):
        typer.echo(line)


def _add_result(summary: Summary, run: str) -> None:
    path = DEFAULT_OUT / f"validation-{run}.jsonl"
    try:
        append(path, validation_line(summary))
    except EvaluationError as error:
        _refuse(str(error))
    typer.echo(f"added to {path}", err=True)


def _settings(model: Path | None) -> RolloutSettings:
    try:
        return RolloutSettings() if model is None else RolloutSettings(model_path=model)
    except ValidationError as error:
        fault = error.errors()[0]
        name = "_".join(map(str, fault["loc"])).upper()
        _refuse(f"ETUDE_{name}: {fault['msg']}")


def _refuse(message: str) -> NoReturn:
    _end(message, EXIT_CONFIG)


def _end(message: str, code: int) -> NoReturn:
    raise CommandFailed(message, code)
