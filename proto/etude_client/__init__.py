"""Clients of the sampler's API, async and sync, over the models of `etude_proto`.

`AsyncEtudeClient` and `EtudeClient` have one method per operation of the contract, retry safely
and raise the exceptions of `etude_client.errors`.
"""

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

__all__ = [
    "AnswerInvalid",
    "ApiError",
    "AsyncEtudeClient",
    "AsyncHeartbeat",
    "Busy",
    "CheckpointNotFound",
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
