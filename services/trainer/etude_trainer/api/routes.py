"""Routes of the trainer's API."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from etude_proto.v1 import Check, Health

from ..status import Snapshot, Stage, StatusBoard
from .metrics import registry_of, render
from .models import StepStatus, TrainerStatus, ValidationStatus
from .problems import RESPONSES

if TYPE_CHECKING:
    from ..validation import Evaluation

ENDED = frozenset({Stage.STOPPED, Stage.FAILED})


def _health(checks: list[Check], response: Response) -> Health:
    ok = all(check.ok for check in checks)
    response.status_code = 200 if ok else 503
    status: Literal["ok", "unavailable"] = "ok" if ok else "unavailable"
    package = version("etude-trainer")
    return Health(status=status, service="trainer", version=package, checks=checks)


def _loop_check(snapshot: Snapshot) -> Check:
    detail = snapshot.detail or snapshot.stage.value
    return Check(name="loop", ok=snapshot.stage is not Stage.FAILED, detail=detail)


def _last_step(snapshot: Snapshot) -> StepStatus:
    metrics = snapshot.last_metrics
    return StepStatus(
        loss=metrics.get("loss"),
        reward=metrics.get("reward_mean"),
        success_share=metrics.get("success_share"),
        tokens_per_s=metrics.get("tokens_per_s"),
        learning_rate=metrics.get("lr"),
        staleness=metrics.get("staleness_mean"),
        clip_share=metrics.get("clip_share"),
        kl_rollout=metrics.get("kl_rollout"),
        importance_mean=metrics.get("importance_mean"),
        importance_max=metrics.get("importance_max"),
        gradient_norm=metrics.get("grad_norm"),
        metrics=metrics,
        seconds=snapshot.last_seconds,
    )


def _validation(found: Evaluation | None) -> ValidationStatus | None:
    if found is None or found.policy_version is None:
        return None
    return ValidationStatus(
        policy_version=found.policy_version,
        benchmark=found.benchmark,
        measure=found.measure,
        mean=found.mean,
        num_answered=found.num_answered,
    )


def make_router(board: StatusBoard) -> APIRouter:
    """The routes over a board."""
    router = APIRouter(responses=RESPONSES)
    registry = registry_of(board)
    unwell: dict[int | str, dict[str, object]] = {503: {"model": Health}}

    @router.get("/livez", operation_id="livez", responses=unwell)
    def livez(response: Response) -> Health:
        """Whether the loop has not failed; restart the process if it has."""
        return _health([_loop_check(board.read())], response)

    @router.get("/readyz", operation_id="readyz", responses=unwell)
    def readyz(response: Response) -> Health:
        """Whether the model is loaded and the sampler answers."""
        snapshot = board.read()
        has_model = snapshot.policy_version is not None and snapshot.stage not in ENDED
        checks = [
            _loop_check(snapshot),
            Check(name="model", ok=has_model, detail=snapshot.stage.value),
            Check(name="sampler", ok=snapshot.reaches_sampler, detail=snapshot.detail),
        ]
        return _health(checks, response)

    @router.get("/metrics", operation_id="metrics", response_class=Response)
    def metrics() -> Response:
        """Prometheus metrics."""
        return Response(render(registry), media_type=CONTENT_TYPE_LATEST)

    @router.get("/v1/status", operation_id="get_status")
    def get_status() -> TrainerStatus:
        """What the trainer does now, and how the last step went."""
        snapshot = board.read()
        return TrainerStatus(
            stage=snapshot.stage,
            stage_seconds=time.monotonic() - snapshot.stage_since_s,
            detail=snapshot.detail,
            run_id=snapshot.run_id,
            policy_version=snapshot.policy_version,
            num_steps=snapshot.num_steps,
            num_rolled_back=snapshot.num_rolled_back,
            num_micro_batches=snapshot.num_micro_batches,
            num_micro_batches_done=snapshot.num_micro_batches_done,
            last_step=_last_step(snapshot),
            validation=_validation(snapshot.validation),
        )

    return router
