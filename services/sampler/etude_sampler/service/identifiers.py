"""Ids: random, prefixed, and for leases signed, so that any replica can tell an invented one.

A lease id holds its run's 12 characters, 12 random ones and an 8-character MAC under the run's
secret. A well-signed id that Redis no longer knows is a lease that ended, never a typing error.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Literal

from ..errors import LeaseNotFound

LeaseKind = Literal["lease", "tb"]
"""Prompt lease, or training batch."""
_HALF = 12
_MAC = 8


def run_id_of(call: str) -> str:
    """The id of the run that a call creates: the same for its every retry."""
    return "run_" + hashlib.sha256(call.encode()).hexdigest()[:_HALF]


def checkpoint_id_of(call: str) -> str:
    """The id of the checkpoint that a call takes: the same for its every retry."""
    return "ckpt_" + hashlib.sha256(call.encode()).hexdigest()[:_HALF]


def restore_id_of(call: str) -> str:
    """The id of the restore that a call is: the same for its every retry."""
    return "rst_" + hashlib.sha256(call.encode()).hexdigest()[:_HALF]


def new_dataset_id() -> str:
    """A fresh dataset id."""
    return "ds_" + secrets.token_hex(_HALF // 2)


def new_receipt_id() -> str:
    """A fresh receipt id."""
    return "rpt_" + secrets.token_hex(_HALF)


def _mac(kind: str, body: str, secret: bytes) -> str:
    return hmac.new(secret, f"{kind}_{body}".encode(), hashlib.sha256).hexdigest()[:_MAC]


def new_lease_id(kind: LeaseKind, run_id: str, secret: bytes) -> str:
    """A fresh, signed lease id."""
    body = run_id.removeprefix("run_") + secrets.token_hex(_HALF // 2)
    return f"{kind}_{body}{_mac(kind, body, secret)}"


def run_of_lease(kind: LeaseKind, lease_id: str) -> str:
    """The run that a lease id names.

    Raises:
        LeaseNotFound: not the form of a lease id.
    """
    body = lease_id.removeprefix(f"{kind}_")
    if body == lease_id or len(body) != 2 * _HALF + _MAC or not body.isalnum():
        raise LeaseNotFound(f"{lease_id!r} is not a lease id of this kind")
    return "run_" + body[:_HALF]


def check_lease_id(kind: LeaseKind, lease_id: str, secret: bytes) -> None:
    """Verify the signature.

    Raises:
        LeaseNotFound: this service never issued the id.
    """
    body = lease_id.removeprefix(f"{kind}_")
    if not hmac.compare_digest(_mac(kind, body[:-_MAC], secret), body[-_MAC:]):
        raise LeaseNotFound(f"no lease {lease_id!r}")
