"""The curriculum behind a few lines: `Curriculum`, for trainers that people already have."""

from .aio import AsyncCurriculum
from .batch import Batch, Item
from .drawing import NothingToPractise
from .entries import Delivery, DeliveryFailed
from .facade import Curriculum
from .live import Status
from .ranks import OneRank, Ranks, TorchRanks
from .rollouts import Rollout, Scored
from .rows import Rows
from .state import CurriculumState

__all__ = [
    "AsyncCurriculum",
    "Batch",
    "Curriculum",
    "CurriculumState",
    "Delivery",
    "DeliveryFailed",
    "Item",
    "NothingToPractise",
    "OneRank",
    "Ranks",
    "Rollout",
    "Rows",
    "Scored",
    "Status",
    "TorchRanks",
]
