"""A run that is played by script and looked at from outside, for tests of checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field

from etude_client.call import TrainingFrame
from etude_proto.v1 import AckReceipt, Checkpoint, Restore, Run

from .sampler_app import Api, parse, query
from .workload import report_of

_STATE = {
    "task_statistics": "ordinal, kind, level",
    "predictions": "ordinal",
    "policy_versions": "version",
}


def state_of(database_url: str, run_id: str) -> dict[str, object]:
    """All that a checkpoint must bring back, as PostgreSQL holds it: every column of every row."""
    tables: dict[str, object] = {
        name: query(
            database_url, f"SELECT * FROM {name} WHERE run_id = %s ORDER BY {order}", run_id
        )
        for name, order in _STATE.items()
    }
    return tables | {
        "run": query(
            database_url,
            "SELECT policy_version, weights_uri, folded_seq, allocator_state, totals FROM runs "
            "WHERE id = %s",
            run_id,
        )
    }


def last_seq(database_url: str, run_id: str) -> int:
    """Number of the run's last ledger row."""
    sql = "SELECT coalesce(max(apply_seq), 0) FROM ledger WHERE run_id = %s"
    ((last,),) = query(database_url, sql, run_id)
    return int(str(last))


@dataclass
class Traveller:
    """Plays a run; `boundaries` are those of `workload_model.check_run`."""

    api: Api
    run: Run
    database_url: str
    boundaries: list[int] = field(default_factory=list)

    async def report(self, num_tasks: int = 5, *, skill: float = 0.5) -> None:
        """Lease and report, without trajectories."""
        batch = await self.api.lease(self.run.id, num_tasks)
        await self.api.reported(batch, report_of(batch, skill=skill))

    async def announce(self, *, key: str | None = None, **more: object) -> AckReceipt:
        """The next version of a curriculum-only run."""
        self.boundaries.append(last_seq(self.database_url, self.run.id))
        version = len(self.boundaries)
        body = {"policy_version": version, "weights_uri": f"/w/{version}", **more}
        path = f"/v1/runs/{self.run.id}/policy-versions"
        return parse(await self.api.post(path, body, key=key), AckReceipt)

    async def fill(self, num_tasks: int = 4) -> TrainingFrame:
        """Report groups with trajectories, and lease them as a training batch."""
        await self.api.report_cargo(await self.api.lease(self.run.id, num_tasks))
        return await self.api.train(self.run.id)

    async def checkpoint(self, *, key: str | None = None, **body: object) -> Checkpoint:
        """Take one now."""
        path = f"/v1/runs/{self.run.id}/checkpoints"
        return parse(await self.api.post(path, body, key=key), Checkpoint, 201)

    async def restore(self, checkpoint_id: str, *, key: str | None = None) -> Restore:
        """Go back, and know it."""
        path = f"/v1/runs/{self.run.id}/restore"
        body = {"checkpoint_id": checkpoint_id}
        done = parse(await self.api.post(path, body, key=key), Restore)
        del self.boundaries[done.policy_version :]
        return done

    async def fork(self, name: str, *, key: str | None = None, **body: object) -> Run:
        """Another run."""
        path = f"/v1/runs/{self.run.id}/fork"
        return parse(await self.api.post(path, {"name": name, **body}, key=key), Run, 201)
