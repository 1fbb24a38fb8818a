"""Serves the page and its static parts; the page reads the public API only (see `static/`)."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from ..errors import NotFound

router = APIRouter(include_in_schema=False)
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    # No inline code, no other origin: a prompt shown on the page cannot run or send anything.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # asked for again each time, answered by 304: no stale scripts
}


@cache
def _parts() -> dict[str, tuple[bytes, str, str]]:
    """Content, media type and entity tag of every static file, by name."""
    found = {}
    for entry in (files(__package__) / "static").iterdir():
        suffix = "." + entry.name.rpartition(".")[2]
        if suffix in _TYPES:
            content = entry.read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            found[entry.name] = (content, _TYPES[suffix], tag)
    return found


def _answer(request: Request, name: str) -> Response:
    if name not in _parts():
        raise NotFound
    content, media_type, tag = _parts()[name]
    headers = {**_HEADERS, "ETag": tag}
    given = request.headers.get("if-none-match", "")
    if tag in [one.strip().removeprefix("W/") for one in given.split(",")]:
        return Response(None, 304, headers=headers)
    return Response(content, headers=headers, media_type=media_type)


@router.get("/")
async def page(request: Request) -> Response:
    """The page."""
    return _answer(request, "page.html")


@router.get("/static/{name}")
async def part(request: Request, name: str) -> Response:
    """A style, a script or the icon. Raises `NotFound`."""
    return _answer(request, name)
