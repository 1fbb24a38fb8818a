"""Clients of the sampler's API, async and sync, over the models of `etude_proto`.

`AsyncEtudeClient` and `EtudeClient` have one method per operation of the contract, retry safely
and raise the exceptions of `etude_client.errors`. `Curriculum` is the short way for trainers:
leases, reports, versions and checkpoints behind a few calls; `AsyncCurriculum` is its twin.
"""

from typing import TYPE_CHECKING

from .async_client import AsyncEtudeClient
from .call import TrainingFrame
from .connections import LeaseKind
from .errors import (
    AnswerInvalid,
    ApiError,
    Busy,
    CheckpointNotFound,
    EtudeError,
    LeaseNotFound,
    LeaseSuperseded,
    NotFound,
    PayloadInvalid,
    RevisionMismatch,
    RunNotFound,
    Unauthorized,
    Unreachable,
    VersionConflict,
)
from .heartbeat import AsyncHeartbeat, Heartbeat
from .operations import TaskOrder
from .sync_client import EtudeClient

if TYPE_CHECKING:
    from .curriculum import AsyncCurriculum, Curriculum

__all__ = [
    "AnswerInvalid",
    "ApiError",
    "AsyncCurriculum",
    "AsyncEtudeClient",
    "AsyncHeartbeat",
    "Busy",
    "CheckpointNotFound",
    "Curriculum",
    "EtudeClient",
    "EtudeError",
    "Heartbeat",
    "LeaseKind",
    "LeaseNotFound",
    "LeaseSuperseded",
    "NotFound",
    "PayloadInvalid",
    "RevisionMismatch",
    "RunNotFound",
    "TaskOrder",
    "TrainingFrame",
    "Unauthorized",
    "Unreachable",
    "VersionConflict",
]


def __getattr__(name: str) -> object:
    """The parts that not every importer pays for."""
    if name in ("AsyncCurriculum", "Curriculum"):
        from . import curriculum

        return getattr(curriculum, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
