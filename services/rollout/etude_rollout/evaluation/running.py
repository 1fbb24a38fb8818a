"""One evaluation from beginning to end: engine, answers on disk, summary.

`cli.py` makes a `Plan` of arguments and settings and shows what comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from pydantic import JsonValue

from ..engines.base import Sampling
from ..engines.opening import open_engine
from ..prompting import ChatTokenizer, Prompter, load_tokenizer
from ..settings import RolloutSettings
from ..tools.opening import Environments
from .answers import NOT_ASKED, Answer, AnswerFile, Header, common, read_answers, rewrite
from .asking import Asker, Terms, Unanswered, sample
from .engine_answers import Answering, EngineAnswers
from .items import Benchmark, EvaluationError, Item
from .model_facts import published_version, quantisation, weights_digest
from .oracle import Codec, GoldAnswers
from .served import ServedAnswers
from .summary import Summary, summarise

TEMPERATURE = 0.0001
"""As ToolRL evaluates: next to greedy. vLLM takes 0.01 for it."""
MAX_NEW_TOKENS = 4096
ANSWERS_FILE = "answers.jsonl"
SUMMARY_FILE = "summary.json"

OnAnswer = Callable[[int, int, int], None]
"""Called, first of all before any answer, with how many items are answered, how many there are,
and how many are right."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be evaluated, and how."""

    settings: RolloutSettings
    out: Path
    url: str | None = None
    """A running vLLM server; null takes an engine of our own."""
    has_model: bool = True
    """Whether a model directory was named; a server may say where its own is."""
    is_gold: bool = False
    """Answers are the gold: checks everything around the model."""
    precision: str | None = None
    """Said in place of what engine and checkpoint say."""
    max_new_tokens: int = MAX_NEW_TOKENS
    seed: int = 0
    limit: int | None = None
    """Items of each domain; null asks all."""
    concurrency: int = 16
    run: str | None = None
    policy_version: int | None = None


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What came out."""

    summary: Summary
    unanswered: Sequence[Unanswered]


async def evaluate(plan: Plan, benchmark: Benchmark, *, on_answer: OnAnswer) -> Evaluated:
    """Answer what is not answered yet, and sum up; the answers lie in `plan.out`.

    Raises:
        EvaluationError: the plan cannot be done, or the folder belongs to another evaluation.
        EngineUnavailable: the engine is away; what was answered is kept.
        EngineError: there is no such model.
        PromptError: the model has no tokenizer or no chat template.
    """
    async with AsyncExitStack() as stack:
        opened = await _opened(plan, benchmark, stack)
        header = _header(plan, benchmark, opened)
        file = AnswerFile.open(plan.out / ANSWERS_FILE, header)
        stack.callback(file.close)
        items = sample(benchmark.items(), plan.limit, plan.seed)
        open_items = [item for item in items if item.id not in file.answers]
        kept = common(file.answers.values(), (item.id for item in items))
        num_kept, num_right = len(kept), sum(answer.is_right for answer in kept)

        def keep(answer: Answer) -> None:
            nonlocal num_kept, num_right
            file.add(answer)
            num_kept += 1
            num_right += answer.is_right
            on_answer(num_kept, len(items), num_right)

        on_answer(num_kept, len(items), num_right)
        terms = Terms(
            sampling=Sampling(plan.max_new_tokens, TEMPERATURE),
            seed=plan.seed,
            concurrency=plan.concurrency,
            timeout_s=plan.settings.generation_timeout_s,
        )
        environments = Environments()  # nothing is started before an item needs it
        stack.push_async_callback(environments.close)
        asker = Asker(opened.answering, opened.prompter, benchmark, terms, environments)
        unanswered = await asker.ask(open_items, keep=keep)
        summary = summarise(
            benchmark,
            header,
            items,
            list(file.answers.values()),
            run=plan.run,
            policy_version=_version(plan, opened.model_dir),
        )
    _write_summary(plan.out, summary)
    return Evaluated(summary, unanswered)


def rescore(
    out: Path, benchmark: Benchmark, *, limit: int | None = None, run: str | None = None
) -> Summary:
    """Judge the answers of a folder again, without any engine, and sum up.

    Raises:
        EvaluationError: there are none, or they answer other rows.
    """
    path = out / ANSWERS_FILE
    header, _ = read_answers(path)
    if header.benchmark != benchmark.name or header.data != benchmark.data:
        raise EvaluationError(
            f"{path} answers {header.benchmark} ({header.data}), "
            f"not {benchmark.name} ({benchmark.data})"
        )
    file = AnswerFile.open(path, header)
    try:
        by_id = {item.id: item for item in benchmark.items()}
        judged = {
            answer.id: _judged(answer, by_id[answer.id], benchmark)
            for answer in file.answers.values()
            if answer.id in by_id
        }
        rewrite(path, header, [judged.get(each, old) for each, old in file.answers.items()])
    finally:
        file.close()
    items = sample(benchmark.items(), limit, header.seed)
    summary = summarise(benchmark, header, items, list(judged.values()), run=run)
    _write_summary(out, summary)
    return summary


@dataclass(frozen=True, slots=True)
class _Opened:
    answering: Answering
    prompter: Prompter
    model_dir: Path
    weights: str
    precision: str


async def _opened(plan: Plan, benchmark: Benchmark, stack: AsyncExitStack) -> _Opened:
    settings = plan.settings
    model_dir = settings.model_path
    answering: Answering
    if plan.is_gold:
        tokenizer = load_tokenizer(model_dir)
        answering = GoldAnswers(benchmark, cast(Codec, tokenizer))
        return _Opened(answering, _prompter(tokenizer, settings), model_dir, "gold", "none")
    if plan.url is not None:
        said = plan.precision or {"float32": "fp32", "bfloat16": "bf16"}[settings.dtype]
        served = await ServedAnswers.open(plan.url, precision=said)
        stack.push_async_callback(served.close)
        answering, weights = served, f"{served.root} {served.weights}"
        if not plan.has_model:
            model_dir = Path(served.root)
        prompter = _prompter(load_tokenizer(model_dir), settings)
    else:
        prompter = _prompter(load_tokenizer(model_dir), settings)
        engine = EngineAnswers(await open_engine(settings))
        stack.push_async_callback(engine.close)
        answering, weights = engine, weights_digest(model_dir)
    quantised = quantisation(model_dir)
    of_engine = answering.name.rpartition("/")[2]
    precision = plan.precision or (f"{of_engine}, {quantised}" if quantised else of_engine)
    return _Opened(answering, prompter, model_dir, weights, precision)


def _prompter(tokenizer: ChatTokenizer, settings: RolloutSettings) -> Prompter:
    return Prompter(tokenizer, settings.prompt_options)


def _header(plan: Plan, benchmark: Benchmark, opened: _Opened) -> Header:
    return Header(
        benchmark=benchmark.name,
        data=benchmark.data,
        model=str(opened.model_dir),
        weights=opened.weights,
        engine=opened.answering.name,
        precision=opened.precision,
        seed=plan.seed,
        temperature=TEMPERATURE,
        max_new_tokens=plan.max_new_tokens,
        prompt=cast(dict[str, JsonValue], asdict(plan.settings.prompt_options)),
    )


def _judged(answer: Answer, item: Item, benchmark: Benchmark) -> Answer:
    """The answer with today's verdict; one that was never asked stays as it is."""
    if answer.finish_reason == NOT_ASKED:
        return answer
    verdict = benchmark.check(item, answer.text, answer.turns or ())
    return answer.model_copy(update={"is_right": verdict.is_right, "reason": verdict.reason})


def _version(plan: Plan, model_dir: Path) -> int | None:
    if plan.policy_version is not None:
        return plan.policy_version
    return published_version(model_dir)


def _write_summary(out: Path, summary: Summary) -> None:
    new = out / f"{SUMMARY_FILE}.new"
    new.write_text(summary.model_dump_json(indent=2) + "\n")
    new.replace(out / SUMMARY_FILE)
