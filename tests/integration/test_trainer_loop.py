"""The trainer against a real sampler: batches in, versions out, weights that workers load."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from etude_client import EtudeClient
from etude_rollout.evaluation.validation import ValidationLine, append
from etude_trainer.app import create_app
from etude_trainer.config import TrainingConfig, parse_config
from etude_trainer.service import Job, TrainerService
from etude_trainer.settings import Settings
from etude_trainer.status import Stage
from support.live_sampler import gated, serving
from support.tiny_model import save_tiny_model
from support.tiny_worker import TinyWorker, create_run
from support.waiting import wait_for

CONFIG = "[optimizer]\nlr = 1e-2\n[batch]\nwait_s = 0.5\nlease_ttl_s = 10\n"


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    """The tiny model."""
    return save_tiny_model(tmp_path / "model")


def service_of(
    folder: Path,
    url: str,
    *,
    run: str,
    model_dir: Path,
    max_steps: int | None = None,
    config: TrainingConfig | None = None,
    state: str = "trainer",
) -> TrainerService:
    """A trainer with its folders below `folder`."""
    settings = Settings(
        sampler_url=url,
        weights_root=folder / "weights",
        trainer_dir=folder / state,
        validation_dir=folder / "eval",
        trainer_name=f"{state}-test",
        trainer_device="cpu",
    )
    job = Job(run=run, model_dir=model_dir, max_steps=max_steps)
    return TrainerService(settings, config or parse_config(CONFIG), job=job)


@contextmanager
def running(service: TrainerService) -> Iterator[TrainerService]:
    """The service, started; stopped at the end."""
    service.start()
    try:
        yield service
    finally:
        service.stop()
    if service.error is not None:
        raise service.error


@contextmanager
def working(worker: TinyWorker) -> Iterator[None]:
    """The worker, filling the ready queue from a thread."""
    done = threading.Event()
    errors: list[Exception] = []

    def work() -> None:
        try:
            while not done.is_set():
                worker.fill()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    assert errors == []


def evaluation(version: int, mean: float) -> ValidationLine:
    """As `etude-rollout eval` writes it."""
    return ValidationLine(
        run="loop",
        policy_version=version,
        benchmark="bfcl",
        data="rows",
        measure="overall",
        mean=mean,
        num_answered=8,
        is_complete=True,
        seed=0,
        precision="float32",
    )


def ended(service: TrainerService) -> bool:
    return not service.is_alive


def journal(folder: Path, run_id: str, state: str = "trainer") -> list[dict[str, object]]:
    text = (folder / state / run_id / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.slow
def test_twelve_steps_raise_the_reward_and_leave_order_behind(
    tmp_path: Path, sampler_url: str, model_dir: Path
) -> None:
    with EtudeClient(sampler_url) as client:
        run = create_run(client, "loop")
        worker = TinyWorker(client, run.id, model_dir)
        config = parse_config(f"{CONFIG}[validation]\nevery_steps = 4\n")
        service = service_of(
            tmp_path, sampler_url, run="loop", model_dir=model_dir, max_steps=12, config=config
        )
        evaluations = tmp_path / "eval" / "validation-loop.jsonl"
        append(evaluations, evaluation(11, 0.5))  # of an earlier run of this name
        with working(worker), serving(create_app(service)) as api:
            wait_for(lambda: service.board.read().num_steps >= 4, what="four steps", timeout_s=120)
            append(evaluations, evaluation(4, 0.25))
            wait_for(lambda: ended(service), what="twelve steps", timeout_s=120)
            status = httpx.get(f"{api}/v1/status", verify=False).json()
            metrics = httpx.get(f"{api}/metrics", verify=False).text
        assert service.error is None
        assert (status["stage"], status["num_steps"], status["policy_version"]) == (
            "stopped",
            12,
            12,
        )
        assert status["last_step"]["seconds"].keys() >= {"fetch", "train", "checkpoint", "ack"}
        assert "etude_trainer_steps_total 12.0" in metrics
        assert status["validation"]["mean"] == 0.25
        assert status["validation"]["policy_version"] == 4
        events = EventAccumulator(str(tmp_path / "trainer" / run.id / "tensorboard")).Reload()
        drawn = events.Scalars("validation/bfcl_overall")
        assert [(point.step, point.value) for point in drawn] == [(4, 0.25)]

        after = client.get_run(run.id)
        assert after.policy_version == 12
        history = client.get_history(run.id).items
        assert [point.policy_version for point in history][-1] == 12
        steps = journal(tmp_path, run.id)
        assert [step["policy_version"] for step in steps] == list(range(1, 13))
        rewards = [step["metrics"]["reward_mean"] for step in steps]  # type: ignore[index]
        assert sum(rewards[-3:]) > sum(rewards[:3]) + 0.2
        first = steps[0]["metrics"]
        assert isinstance(first, dict)
        assert first["importance_mean"] == pytest.approx(1.0, abs=1e-4)
        assert abs(first["kl_rollout"]) < 1e-6

        published = sorted(path.name for path in (tmp_path / "weights" / run.id).iterdir())
        assert [int(name[1:7]) for name in published] == [8, 9, 10, 11, 12], "8 is to be evaluated"
        assert after.weights_uri == str(tmp_path / "weights" / run.id / published[-1])
        checkpoints = (tmp_path / "trainer" / run.id / "checkpoints").iterdir()
        assert sorted(path.name for path in checkpoints) == published[-2:]
        assert len(worker.loaded) >= 8


def test_a_restarted_trainer_goes_on_where_it_stopped(
    tmp_path: Path, sampler_url: str, model_dir: Path
) -> None:
    with EtudeClient(sampler_url) as client:
        run = create_run(client, "again")
        worker = TinyWorker(client, run.id, model_dir)
        for total in (2, 4):
            service = service_of(
                tmp_path, sampler_url, run=run.id, model_dir=model_dir, max_steps=2
            )
            with working(worker), running(service):
                wait_for(lambda s=service: ended(s), what="two steps", timeout_s=60)  # type: ignore[misc]
            assert service.board.read().policy_version == total
            assert client.get_run(run.id).policy_version == total
        assert [step["policy_version"] for step in journal(tmp_path, run.id)] == [1, 2, 3, 4]


def test_a_stop_in_a_step_gives_the_batch_back(
    tmp_path: Path, sampler_url: str, model_dir: Path
) -> None:
    with EtudeClient(sampler_url) as client, gated(sampler_url) as (url, gate):
        run = create_run(client, "stop")
        TinyWorker(client, run.id, model_dir).fill()
        gate.hold(r"POST /v1/runs/\w+/training-batches", at="reply")
        service = service_of(tmp_path, url, run=run.id, model_dir=model_dir)
        service.start()
        gate.wait_held()
        assert client.get_curriculum(run.id).counts.num_training_groups == 4
        stopper = threading.Thread(target=service.stop)
        stopper.start()
        gate.open()
        stopper.join()
        assert service.error is None
        assert service.board.read().stage is Stage.STOPPED
        counts = client.get_curriculum(run.id).counts
        assert (counts.num_training_groups, counts.num_ready_groups) == (0, 4)
        assert client.get_run(run.id).policy_version == 0
        assert not (tmp_path / "trainer" / run.id / "lease.json").exists()


def test_a_stop_finishes_an_ack_that_is_under_way(
    tmp_path: Path, sampler_url: str, model_dir: Path
) -> None:
    with EtudeClient(sampler_url) as client, gated(sampler_url) as (url, gate):
        run = create_run(client, "ack")
        TinyWorker(client, run.id, model_dir).fill()
        gate.hold(r"POST /v1/training-batches/\w+/ack")
        service = service_of(tmp_path, url, run=run.id, model_dir=model_dir)
        service.start()
        gate.wait_held()
        stopper = threading.Thread(target=service.stop)
        stopper.start()
        gate.open()
        stopper.join()
        assert service.error is None
        assert client.get_run(run.id).policy_version == 1
        assert len(journal(tmp_path, run.id)) == 1


def test_a_second_trainer_in_the_same_folder_is_refused(
    tmp_path: Path, sampler_url: str, model_dir: Path
) -> None:
    with EtudeClient(sampler_url) as client:
        run = create_run(client, "twice")
        first = service_of(tmp_path, sampler_url, run=run.id, model_dir=model_dir)
        with running(first):
            wait_for(
                lambda: first.board.read().policy_version is not None,
                what="the first trainer stands",
                timeout_s=30,
            )
            second = service_of(tmp_path, sampler_url, run=run.id, model_dir=model_dir)
            second.start()
            wait_for(lambda: ended(second), what="the second gives up", timeout_s=30)
            assert "another trainer works" in str(second.error)


def test_a_trainer_waits_for_its_sampler_and_its_run(
    tmp_path: Path, sampler_url: str, model_dir: Path
) -> None:
    with EtudeClient(sampler_url) as client:
        service = service_of(tmp_path, sampler_url, run="later", model_dir=model_dir, max_steps=1)
        with running(service):
            wait_for(
                lambda: "no run 'later'" in service.board.read().detail,
                what="it waits for the run",
                timeout_s=30,
            )
            run = create_run(client, "later")
            with working(TinyWorker(client, run.id, model_dir)):
                wait_for(lambda: ended(service), what="one step", timeout_s=60)
        assert client.get_run(run.id).policy_version == 1


def test_the_wrong_model_stops_the_trainer_and_gives_the_batch_back(
    tmp_path: Path, sampler_url: str, model_dir: Path
) -> None:
    small = save_tiny_model(tmp_path / "small", vocab_size=64)
    with EtudeClient(sampler_url) as client:
        run = create_run(client, "wrong")
        service = service_of(tmp_path, sampler_url, run=run.id, model_dir=small)
        with working(TinyWorker(client, run.id, model_dir)):
            service.start()
            wait_for(lambda: ended(service), what="it gives up", timeout_s=60)
        assert "the model's vocabulary ends at 64" in str(service.error)
        counts = client.get_curriculum(run.id).counts
        assert counts.num_training_groups == 0
        assert counts.num_ready_groups >= 4
