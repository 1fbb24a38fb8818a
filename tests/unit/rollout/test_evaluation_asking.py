"""Evaluations by a real engine: kept as they come, going on, the same for the same seed."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from etude_rollout.cli import main
from etude_rollout.engines.base import EngineUnavailable
from etude_rollout.evaluation import cli
from etude_rollout.evaluation.answers import Answer, read_answers, rewrite
from etude_rollout.evaluation.api_bank import ApiBank
from etude_rollout.evaluation.asking import sample
from etude_rollout.evaluation.engine_answers import item_seed
from etude_rollout.evaluation.progress import Progress
from etude_rollout.evaluation.running import ANSWERS_FILE, Evaluated, Plan, evaluate
from etude_rollout.evaluation.validation import read
from etude_rollout.settings import RolloutSettings
from support.evaluations import api_bank_rows


@pytest.fixture
def bank(tmp_path: Path) -> ApiBank:
    (tmp_path / "rows").mkdir()
    return ApiBank(api_bank_rows(tmp_path / "rows"))


@pytest.fixture
def settings(policy_dir: Path) -> RolloutSettings:
    # One row at a time: the same arithmetic whatever else is asked.
    return RolloutSettings(
        model_path=policy_dir, explain_format=False, engine_max_rows=1, engine_threads=1
    )


def ask(plan: Plan, bank: ApiBank) -> Evaluated:
    return asyncio.run(evaluate(plan, bank, on_answer=lambda *_: None))


def answers_of(out: Path) -> dict[str, Answer]:
    return {each.id: each for each in read_answers(out / ANSWERS_FILE)[1]}


def test_answers_are_kept_with_what_they_are(
    tmp_path: Path, bank: ApiBank, settings: RolloutSettings
) -> None:
    plan = Plan(settings=settings, out=tmp_path / "a", max_new_tokens=12, concurrency=4)
    evaluated = ask(plan, bank)
    assert evaluated.unanswered == []
    assert evaluated.summary.is_complete
    found = answers_of(plan.out)
    assert set(found) == {item.id for item in bank.items()}
    header, _ = read_answers(plan.out / ANSWERS_FILE)
    assert header.precision == "fp32"
    assert header.engine.endswith("/fp32")
    for each in found.values():
        assert each.engine == header.engine
        assert each.finish_reason in ("stop", "length")
        assert 1 <= len(each.token_ids) <= 12
        assert each.num_prompt_tokens > 20
    assert sum(domain.num_cut for domain in evaluated.summary.domains) == sum(
        each.finish_reason == "length" for each in found.values()
    )


def test_stopped_and_gone_on_is_the_same_as_at_once(
    tmp_path: Path, bank: ApiBank, settings: RolloutSettings
) -> None:
    whole = Plan(settings=settings, out=tmp_path / "whole", max_new_tokens=8, concurrency=1)
    ask(whole, bank)

    async def stopped(plan: Plan) -> None:
        enough = asyncio.Event()

        def on_answer(num_answered: int, num_items: int, num_right: int) -> None:
            if num_answered == 3:
                enough.set()

        task = asyncio.create_task(evaluate(plan, bank, on_answer=on_answer))
        await enough.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    parts = Plan(settings=settings, out=tmp_path / "parts", max_new_tokens=8, concurrency=2)
    asyncio.run(stopped(parts))
    before = answers_of(parts.out)
    assert 3 <= len(before) < 9
    ask(parts, bank)
    after = answers_of(parts.out)
    assert {each: after[each] for each in before} == before, "nothing is asked twice"
    assert after == answers_of(whole.out)


def test_progress_says_where_and_how_long(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rate is that of this run: what was answered before took no time."""
    now = iter((100.0, 103.0, 130.0, 131.0))
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    progress = Progress(tmp_path)
    for num_answered in (10, 11, 20, 40):
        progress(num_answered, 40, 0)
    assert capsys.readouterr().err.splitlines() == [
        f"10 of 40 answered, 0 right; answers go to {tmp_path}",
        "20 of 40 answered, 0 right, about 1 min left",
        "40 of 40 answered, 0 right",
    ]


def test_seeds_of_answers_and_samples(bank: ApiBank) -> None:
    assert item_seed(0, "a") == item_seed(0, "a")
    assert len({item_seed(s, i) for s in (0, 1) for i in ("a", "b")}) == 4
    few, more = sample(bank.items(), 1, 0), sample(bank.items(), 2, 0)
    assert [item.domain for item in few] == ["level-1", "level-2", "level-3"]
    assert {item.id for item in few} < {item.id for item in more}
    assert sample(bank.items(), None, 0) == list(bank.items())
    draws = {tuple(item.id for item in sample(bank.items(), 1, seed)) for seed in range(20)}
    assert len(draws) > 5


def test_a_prompt_that_does_not_fit_is_wrong_and_said(
    tmp_path: Path, settings: RolloutSettings
) -> None:
    folder = api_bank_rows(tmp_path, num_rows=1)
    path = folder / "level-1-api_processed.json"
    path.write_text(path.read_text().replace("0 plus 1?", "z" * 2000))
    plan = Plan(settings=settings, out=tmp_path / "out", max_new_tokens=4)
    evaluated = ask(plan, ApiBank(folder))
    long = answers_of(plan.out)["level-1/0"]
    assert (long.finish_reason, long.is_right) == ("not_asked", False)
    assert "fill the context" in long.reason
    assert [domain.num_not_asked for domain in evaluated.summary.domains] == [1, 0, 0]
    assert evaluated.summary.is_complete


def test_answers_that_take_too_long_stay_open(
    tmp_path: Path, bank: ApiBank, settings: RolloutSettings
) -> None:
    hasty = settings.model_copy(update={"generation_timeout_s": 1e-4})
    plan = Plan(settings=hasty, out=tmp_path / "out", max_new_tokens=500, limit=1)
    evaluated = ask(plan, bank)
    assert len(evaluated.unanswered) == 3
    assert not evaluated.summary.is_complete
    assert answers_of(plan.out) == {}
    assert all(domain.share is None for domain in evaluated.summary.domains)


def test_a_server_that_is_away(tmp_path: Path, bank: ApiBank, settings: RolloutSettings) -> None:
    plan = Plan(settings=settings, out=tmp_path / "out", url="http://127.0.0.1:9")
    with pytest.raises(EngineUnavailable, match=r"127\.0\.0\.1:9"):
        ask(plan, bank)


def run_command(rows: Path, model: Path, *more: str) -> tuple[int, str, str]:
    command = ["eval", "api-bank", "--data", str(rows), "--model", str(model), *more]
    told = CliRunner().invoke(main, command)
    return told.exit_code, told.stdout, told.stderr


def test_gold_comes_through_tokenizer_parser_and_check(
    tmp_path: Path, policy_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = api_bank_rows(tmp_path)
    code, table, _ = run_command(rows, policy_dir, "--gold", "--out", "gold")
    assert code == 0
    assert "overall: 100.00" in table
    assert "Qwen2.5-3B-Instruct" in table
    code, document, _ = run_command(rows, policy_dir, "--gold", "--out", "gold", "--json")
    assert code == 0
    assert json.loads(document) == json.loads(Path("gold/summary.json").read_text())
    assert json.loads(document)["groups"][0]["share"] == 1.0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_there_is_and_a_run_gets_its_line(
    tmp_path: Path, policy_dir: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ETUDE_ENGINE_MAX_ROWS", "1")
    monkeypatch.setenv("ETUDE_EXPLAIN_FORMAT", "false")
    rows = api_bank_rows(tmp_path)
    options = ("--max-new-tokens", "6", "--out", "out", "--run", "mine")

    class Stops(Progress):
        def __call__(self, num_answered: int, num_items: int, num_right: int) -> None:
            if num_answered == 4:
                signal.raise_signal(number)

    with monkeypatch.context() as patched:
        patched.setattr(cli, "Progress", Stops)
        code, _, told = run_command(rows, policy_dir, *options)
    assert code == 130
    assert told == "etude-rollout: stopped; the same command goes on\n"
    assert 4 <= len(answers_of(Path("out"))) < 9
    assert not Path(".etude").exists(), "an evaluation that was stopped is no result"

    for _ in range(2):  # told twice, kept once
        code, table, told = run_command(rows, policy_dir, *options)
        assert code == 0, told
    assert "overall: " in table
    (line,) = read(Path(".etude/eval/validation-mine.jsonl"))
    assert (line.run, line.measure, line.num_answered, line.is_complete) == (
        "mine",
        "overall",
        9,
        True,
    )
    assert f"overall: {100 * line.mean:.2f}" in table

    code, _, told = run_command(rows, policy_dir, *options, "--seed", "1")
    assert code == 2
    assert told.count("\n") == 1
    assert "seed is 0 there and 1 here" in told


def test_scoring_again_needs_no_engine(
    tmp_path: Path, policy_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = api_bank_rows(tmp_path)
    run_command(rows, policy_dir, "--gold", "--out", "gold")
    path = Path("gold") / ANSWERS_FILE
    header, answers = read_answers(path)
    rewrite(path, header, [each.model_copy(update={"is_right": False}) for each in answers])
    code, table, _ = run_command(rows, tmp_path / "no-model", "--out", "gold", "--score-only")
    assert code == 0
    assert "overall: 100.00" in table
    assert all(each.is_right for each in answers_of(Path("gold")).values())
    other = tmp_path / "other"
    other.mkdir()
    code, _, told = run_command(
        api_bank_rows(other, num_rows=2), policy_dir, "--out", "gold", "--score-only"
    )
    assert code == 2
    assert "not api-bank (sha256:" in told


def test_wrong_arguments_are_one_line(tmp_path: Path, policy_dir: Path) -> None:
    rows = api_bank_rows(tmp_path)
    for more, code, said in (
        (("--url", "http://127.0.0.1:9"), 3, "goes on when it is back"),
        (("--score-only", "--out", str(tmp_path / "none")), 2, "cannot read"),
        (("--url", "127.0.0.1:9"), 2, "must begin with http://"),
        (("--run", "../elsewhere"), 2, "a run's name or id"),
    ):
        found, _, told = run_command(rows, policy_dir, *more)
        assert (found, told.count("\n")) == (code, 1), told
        assert said in told
    found, _, told = run_command(tmp_path / "nowhere", policy_dir)
    assert (found, told.count("\n")) == (2, 1)
    found, _, told = run_command(rows, tmp_path / "no-model")
    assert (found, told.count("\n")) == (2, 1)
    found = CliRunner().invoke(main, ["eval", "bfcl", "--categories", "simple"]).exit_code
    assert found == 2
    found = CliRunner().invoke(main, ["eval", "bfcl", "--split", "test"]).exit_code
    assert found == 2
