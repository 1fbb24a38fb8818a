"""What routes need of the app: the wired sampler, and who is calling."""

from __future__ import annotations

import hashlib
import hmac

from fastapi import Request

from ..errors import BadRequest, DependencyUnavailable, Unauthorized
from ..service.sampler import Sampler


def sampler_of(request: Request) -> Sampler:
    """The wired sampler. Raises `DependencyUnavailable` while the app starts."""
    sampler = getattr(request.app.state, "sampler", None)
    if not isinstance(sampler, Sampler):
        raise DependencyUnavailable("the service is starting")
    return sampler


def refuse_nul(request: Request) -> None:
    """No id and no filter holds NUL, and PostgreSQL cannot compare text with it.

    Raises:
        BadRequest: the URL holds one.
    """
    if "\x00" in request.scope["path"] or b"%00" in request.scope["query_string"]:
        raise BadRequest("the URL holds a NUL character")


def hash_key(key: str) -> bytes:
    """Digest of a bearer key; keys are compared and kept only so."""
    return hashlib.sha256(key.encode()).digest()


def authorize(request: Request) -> None:
    """Check the bearer key, if the service has keys.

    Raises:
        Unauthorized: no key, or an unknown one.
    """
    accepted: list[bytes] = request.app.state.key_hashes
    if not accepted:
        return
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    given = hash_key(key.strip())
    matches = [hmac.compare_digest(given, one) for one in accepted]
    if scheme.lower() != "bearer" or not any(matches):
        raise Unauthorized("send Authorization: Bearer KEY")
