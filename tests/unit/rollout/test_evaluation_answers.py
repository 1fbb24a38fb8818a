"""Files of answers: they go on, hold no torn lines, and are never mixed."""

from __future__ import annotations

from pathlib import Path

import pytest

from etude_rollout.evaluation.answers import AnswerFile, read_answers, rewrite
from etude_rollout.evaluation.items import EvaluationError
from support.evaluations import answer, header


def filled(path: Path, *ids: str) -> Path:
    file = AnswerFile.open(path, header())
    for each in ids:
        file.add(answer(each, is_right=True))
    file.close()
    return path


def test_a_second_run_goes_on(tmp_path: Path) -> None:
    path = filled(tmp_path / "new" / "answers.jsonl", "a", "b")
    again = AnswerFile.open(path, header())
    assert list(again.answers) == ["a", "b"]
    again.add(answer("c", is_right=False))
    again.close()
    found, answers = read_answers(path)
    assert found == header()
    assert [each.id for each in answers] == ["a", "b", "c"]


@pytest.mark.parametrize("num_bytes", [1, 40, 100])
def test_a_torn_line_is_cut_off(tmp_path: Path, num_bytes: int) -> None:
    path = filled(tmp_path / "answers.jsonl", "a", "b")
    path.write_bytes(path.read_bytes()[:-num_bytes])
    assert [each.id for each in read_answers(path)[1]] == ["a"], "reading leaves it out"
    filled(path, "b", "c")
    assert [each.id for each in read_answers(path)[1]] == ["a", "b", "c"]


def test_a_torn_head_is_written_again(tmp_path: Path) -> None:
    path = filled(tmp_path / "answers.jsonl")
    path.write_bytes(path.read_bytes()[:10])
    filled(path, "a")
    assert [each.id for each in read_answers(path)[1]] == ["a"]


def test_answers_to_something_else_are_refused(tmp_path: Path) -> None:
    path = filled(tmp_path / "answers.jsonl", "a")
    before = path.read_bytes()
    with pytest.raises(EvaluationError, match=r"seed is 0 there and 1 here.*another --out"):
        AnswerFile.open(path, header(seed=1))
    with pytest.raises(EvaluationError, match="precision is 'fp32' there and 'bf16' here"):
        AnswerFile.open(path, header(precision="bf16"))
    assert path.read_bytes() == before
    moved = header().model_copy(update={"model": "elsewhere/m"})
    AnswerFile.open(path, moved).close()


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    first = AnswerFile.open(path, header())
    with pytest.raises(EvaluationError, match="another evaluation writes"):
        AnswerFile.open(path, header())
    first.close()
    AnswerFile.open(path, header()).close()


def test_bad_lines_are_named(tmp_path: Path) -> None:
    path = filled(tmp_path / "answers.jsonl", "a")
    good = path.read_bytes()
    path.write_bytes(good + b'{"id": 1}\n')
    with pytest.raises(EvaluationError, match="line 3"):
        read_answers(path)
    path.write_bytes(good + good.splitlines(keepends=True)[1])
    with pytest.raises(EvaluationError, match="line 3: a is answered twice"):
        read_answers(path)


@pytest.mark.parametrize("content", [b"something else\n", b"something else", b'{"a": 1}\n{"b'])
def test_a_strangers_file_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_bytes(content)
    with pytest.raises(EvaluationError, match="no file of answers"):
        AnswerFile.open(path, header())
    assert path.read_bytes() == content


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EvaluationError, match="cannot write"):
        AnswerFile.open(tmp_path / "file" / "answers.jsonl", header())


def test_rewriting_replaces_all(tmp_path: Path) -> None:
    path = filled(tmp_path / "answers.jsonl", "a", "b")
    rewrite(path, header(), [answer("a", is_right=False)])
    assert [(each.id, each.is_right) for each in read_answers(path)[1]] == [("a", False)]
    assert [each.name for each in tmp_path.iterdir()] == ["answers.jsonl"]
