"""Sharded checkpoints: every rank writes its part of model and optimizer, by
torch.distributed.checkpoint, and any number of ranks reads them.

Used by `checkpoint.py`. Writing is asynchronous: the state is copied to the host at once, the
files are written by a thread of every rank, beside whatever it computes next. The folder's own
metadata is pickled by torch: it is read from the trainer's own folder only.
"""

from __future__ import annotations

import warnings
from concurrent.futures import Future
from pathlib import Path
from pickle import UnpicklingError
from typing import Final

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save

from ..errors import CheckpointError
from ..model import Policy
from .crew import Crew

DAMAGE: Final = (OSError, RuntimeError, ValueError, KeyError, EOFError, UnpicklingError)
"""What reading a damaged file raises."""


def begin_shards(
    policy: Policy, optimizer: torch.optim.Optimizer, folder: Path, crew: Crew
) -> Future[object]:
    """Copy this rank's part and begin to write it; a collective call.

    The future of rank 0 is done when all ranks' files and the metadata are on disk.
    """
    model, moments = get_state_dict(policy.module, optimizer)
    writer = FileSystemWriter(folder, sync_files=True)
    writing = async_save(
        {"model": model, "optimizer": moments},
        storage_writer=writer,
        process_group=crew.saving,
        no_dist=crew.is_alone,
    )
    assert isinstance(writing, Future)
    return writing


def load_shards(policy: Policy, optimizer: torch.optim.Optimizer, folder: Path, crew: Crew) -> None:
    """Put model and optimizer back, whatever number of ranks wrote them; a collective call.

    Raises:
        CheckpointError: incomplete, damaged, or of another model.
    """
    model, moments = get_state_dict(policy.module, optimizer)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            load(
                {"model": model, "optimizer": moments},
                storage_reader=FileSystemReader(folder),
                process_group=crew.saving,
                no_dist=crew.is_alone,
            )
        set_state_dict(
            policy.module,
            optimizer,
            model_state_dict=model,
            optim_state_dict=moments,
        )
    except (*DAMAGE, CheckpointException) as error:
        raise CheckpointError(f"{folder}: {str(error).splitlines()[0]}") from error
