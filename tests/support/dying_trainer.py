"""A trainer that is killed, or stopped, in the middle of a transfer: a process of its own.

`python dying_trainer.py DIRECTORY kill|stop NUM_TENSORS` prints the transfer as JSON, sends so many
tensors and then sends itself the signal.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from etude_proto.v1.weights import TensorSpec, Transfer, TransferBackend
from etude_trainer.weights.groups import open_group

TIMEOUT_S = 3.0


def main(directory: Path, how: str, num_tensors: int) -> None:
    """Send a part."""
    tensors = load_file(directory / "model.safetensors")
    timeout = timedelta(seconds=TIMEOUT_S)
    master = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timeout)
    specs = [
        TensorSpec(name=name, dtype=str(t.dtype).removeprefix("torch."), shape=list(t.shape))
        for name, t in tensors.items()
    ]
    transfer = Transfer(
        session="transfer_unfinished",
        backend=TransferBackend.GLOO,
        policy_version=1,
        master_address="127.0.0.1",
        master_port=master.port,
        world_size=2,
        timeout_s=TIMEOUT_S,
        tensors=specs,
    )
    print(transfer.model_dump_json(), flush=True)
    client = TCPStore("127.0.0.1", master.port, is_master=False, timeout=timeout)
    with open_group(PrefixStore(transfer.session, client), transfer, rank=0) as group:
        for spec in specs[:num_tensors]:
            data = tensors[spec.name].contiguous().reshape(-1).view(torch.uint8)
            group.broadcast(data, 0).wait(timeout)
        os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[how])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
