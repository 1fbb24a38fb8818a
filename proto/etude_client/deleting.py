"""Calls that delete runs and datasets, for both clients; the others are in `operations.py`."""

from __future__ import annotations

import uuid
from urllib.parse import quote

from etude_proto.v1 import Deleted

from .call import Call, json_decoder
from .connections import AsyncConnection, Connection


def _delete(path: str, *, key: str | None, params: dict[str, str | int]) -> Call[Deleted]:
    headers = {"idempotency-key": key or uuid.uuid4().hex}
    return Call("DELETE", path, json_decoder(Deleted), headers=headers, params=params)


def delete_run(run_id: str, *, force: bool, key: str | None) -> Call[Deleted]:
    params: dict[str, str | int] = {"force": "true"} if force else {}
    return _delete(f"/v1/runs/{quote(run_id, safe='')}", key=key, params=params)


def delete_dataset(dataset_id: str, *, key: str | None) -> Call[Deleted]:
    return _delete(f"/v1/datasets/{quote(dataset_id, safe='')}", key=key, params={})


class AsyncDeleteCalls(AsyncConnection):
    """The deleting calls of `AsyncEtudeClient`."""

    async def delete_run(
        self, run_id: str, *, force: bool = False, idempotency_key: str | None = None
    ) -> Deleted:
        """Delete a paused run; with `force` although leases are live."""
        return await self._send(delete_run(run_id, force=force, key=idempotency_key))

    async def delete_dataset(
        self, dataset_id: str, *, idempotency_key: str | None = None
    ) -> Deleted:
        """Delete a dataset that no run uses."""
        return await self._send(delete_dataset(dataset_id, key=idempotency_key))


class DeleteCalls(Connection):
    """The deleting calls of `EtudeClient`."""

    def delete_run(
        self, run_id: str, *, force: bool = False, idempotency_key: str | None = None
    ) -> Deleted:
        """Delete a paused run; with `force` although leases are live."""
        return self._send(delete_run(run_id, force=force, key=idempotency_key))

    def delete_dataset(self, dataset_id: str, *, idempotency_key: str | None = None) -> Deleted:
        """Delete a dataset that no run uses."""
        return self._send(delete_dataset(dataset_id, key=idempotency_key))
