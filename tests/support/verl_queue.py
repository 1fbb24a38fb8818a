"""A process that holds verl's TransferQueue on a local Ray for the drivers of one test module.

Run as a script with a folder for Ray's files; it prints where Ray is, and ends with its standard
input, so that it outlives nobody.
"""

from __future__ import annotations

import sys


def main(folder: str) -> None:
    """Hold the queue until standard input ends."""
    import ray
    import transfer_queue
    from omegaconf import OmegaConf

    # Two CPUs for the queue's two actors: Ray starts a worker for each before it is asked to.
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=80 * 2**20,
        _temp_dir=folder,
    )
    storage = {"SimpleStorage": {"num_data_storage_units": 1, "total_storage_size": 4096}}
    transfer_queue.init(OmegaConf.create({"backend": storage}))
    print(ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
    transfer_queue.close()
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
