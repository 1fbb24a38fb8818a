"""Who may call what: one table, one dependency before every route that is not open.

A call that the table does not name needs `admin`. A key for certain runs covers calls of those runs
and the list of runs, which it sees filtered; any other run is refused with 403 whether it exists or
not, so that a refusal tells nothing.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from fastapi import Request

from etude_proto.v1 import Scope

from ..errors import Forbidden, LeaseNotFound, RateLimited, RunNotFound, Unauthorized
from ..service.callers import OPEN, Caller
from ..service.identifiers import LeaseKind, run_of_lease
from ..service.rates import Spent
from ..service.sampler import Sampler
from .deps import sampler_of

OPEN_CALLS = frozenset({"livez", "readyz", "startupz"})
"""Operations that ask for no key; so do `/health`, `/openapi.json` and the dashboard's files."""

NEEDS: dict[str, Scope] = {
    "create_key": Scope.ADMIN,
    "list_keys": Scope.ADMIN,
    "get_key": Scope.ADMIN,
    "revoke_key": Scope.ADMIN,
    "create_dataset": Scope.ADMIN,
    "list_datasets": Scope.READ,
    "get_dataset": Scope.READ,
    "import_tasks": Scope.ADMIN,
    "create_run": Scope.ADMIN,
    "list_runs": Scope.READ,
    "get_run": Scope.READ,
    "update_run": Scope.ADMIN,
    "pause_run": Scope.ADMIN,
    "resume_run": Scope.ADMIN,
    "rebuild_run": Scope.ADMIN,
    "delete_run": Scope.ADMIN,
    "delete_dataset": Scope.ADMIN,
    "lease_prompt_batch": Scope.ROLLOUT,
    "extend_lease": Scope.ROLLOUT,
    "release_lease": Scope.ROLLOUT,
    "report_groups": Scope.ROLLOUT,
    "lease_training_batch": Scope.TRAINER,
    "extend_training_batch": Scope.TRAINER,
    "ack_training_batch": Scope.TRAINER,
    "release_training_batch": Scope.TRAINER,
    "announce_policy_version": Scope.TRAINER,
    "post_predictions": Scope.TRAINER,
    "create_checkpoint": Scope.TRAINER,
    "list_checkpoints": Scope.READ,
    "get_checkpoint": Scope.READ,
    "delete_checkpoint": Scope.ADMIN,
    "restore_run": Scope.TRAINER,
    "list_restores": Scope.READ,
    "fork_run": Scope.ADMIN,
    "list_draws": Scope.READ,
    "get_curriculum": Scope.READ,
    "get_history": Scope.READ,
    "get_series": Scope.READ,
    "get_activity": Scope.READ,
    "get_distributions": Scope.READ,
    "get_trajectories": Scope.READ,
    "list_tasks": Scope.READ,
    "get_task": Scope.READ,
    "metrics": Scope.READ,
}
"""Operation -> scope."""

_FILTERED = frozenset({"list_runs"})
"""Calls of no run that a key for certain runs may make: they answer with its runs only."""


def needed(operation: str) -> Scope:
    """The scope that an operation needs."""
    return NEEDS.get(operation, Scope.ADMIN)


def bearer_of(request: Request) -> str | None:
    """The key of `Authorization: Bearer KEY`, if any."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" and key.strip() else None


def caller_of(request: Request) -> Caller:
    """Who is calling, once `authorize` has said so."""
    caller = request.scope["caller"]
    assert isinstance(caller, Caller)
    return caller


def may_name(request: Request, name: str | None) -> None:
    """A key for certain runs gives no run a name that is not among them: it may be another's.

    Raises:
        Forbidden: the name is not the key's to give.
    """
    caller = caller_of(request)
    if name is not None and caller.runs is not None and name not in caller.run_names:
        raise Forbidden(f"this key is for certain runs, and {name!r} is not one of their names")


async def authorize(request: Request) -> None:
    """Check key, scope, run and rate, before anything else is read.

    Raises:
        Unauthorized: no key, an unknown one, or one that is revoked or over.
        Forbidden: it lacks the scope, or does not cover the run.
        RateLimited: it has used up its calls for now.
    """
    sampler = await sampler_of(request)
    route: Any = request.scope["route"]
    operation = route.operation_id or ""
    caller = await sampler.callers.identify(bearer_of(request))
    if caller is OPEN:
        _check_nearby(request)
    else:
        await _count(request, sampler, caller)
    scope = needed(operation)
    if not caller.may(scope):
        raise Forbidden(f"this call needs a key with scope {scope.value}")
    if caller.runs is not None and operation not in _FILTERED:
        run_id = _run_of(request, route.path)
        if run_id is None or not await _covers(sampler, caller, run_id):
            raise Forbidden("this key is for other runs")
    request.scope["caller"] = caller


async def _count(request: Request, sampler: Sampler, caller: Caller) -> None:
    """Count the call and tell the caller what is left, also in the answer that refuses."""
    policy = sampler.rates.policy
    if not policy:
        return
    headers = request.scope.setdefault("answer_headers", [])
    headers.append((b"ratelimit-policy", policy.encode()))
    try:
        spent = await sampler.rates.spend(caller.key)
    except RateLimited as error:
        headers.append(_told(Spent(0, max(1.0, error.retry_after_s or 0.0))))
        raise
    headers.append(_told(spent))


def _told(spent: Spent) -> tuple[bytes, bytes]:
    return b"ratelimit", f'"key";r={spent.left};t={round(spent.wait_s)}'.encode()


def _run_of(request: Request, path: str) -> str | None:
    """The run that a call is about; None if it is about none, or names no possible one."""
    params = request.path_params
    if "run_id" in params:
        return str(params["run_id"])
    if "lease_id" not in params:
        return None
    kind: LeaseKind = "tb" if path.startswith("/v1/training-batches/") else "lease"
    try:
        return run_of_lease(kind, params["lease_id"])
    except LeaseNotFound:
        return None


async def _covers(sampler: Sampler, caller: Caller, run_id: str) -> bool:
    if run_id in caller.run_ids:
        return True
    if not caller.run_names:
        return False
    try:
        return (await sampler.ground.contexts.get(run_id)).row.name in caller.run_names
    except RunNotFound:
        return False


def _check_nearby(request: Request) -> None:
    """Without keys only this machine is answered, whatever address the server was given.

    A name with a dot in `Host` is a page's of the web, resolved to this machine (DNS rebinding).

    Raises:
        Unauthorized: the caller is elsewhere.
    """
    peer = request.scope.get("client")
    host = request.headers.get("host", "").rsplit("@", 1)[-1]
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    is_name = "." not in name and ":" not in name
    if (peer is not None and not is_loopback(peer[0])) or not (is_name or is_loopback(name)):
        raise Unauthorized("without keys the sampler answers this machine only: set ETUDE_API_KEYS")


def is_loopback(address: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
