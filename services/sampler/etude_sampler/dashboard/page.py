"""Serves the page and its static parts; the page reads the public API only (see `static/`).

`observability.middleware` adds the headers that every answer carries (no sniffing, no storing).
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Response

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
    "Cross-Origin-Resource-Policy": "same-origin",
}


@cache
def _parts() -> dict[str, tuple[bytes, str]]:
    """Content and media type of every static file, by name; they never change while we run."""
    found = {}
    for entry in (files(__package__) / "static").iterdir():
        suffix = "." + entry.name.rpartition(".")[2]
        if suffix in _TYPES:
            found[entry.name] = (entry.read_bytes(), _TYPES[suffix])
    return found


def _answer(name: str) -> Response:
    if name not in _parts():
        raise NotFound
    content, media_type = _parts()[name]
    return Response(content, headers=_HEADERS, media_type=media_type)


@router.get("/")
async def page() -> Response:
    """The page."""
    return _answer("page.html")


@router.get("/static/{name}")
async def part(name: str) -> Response:
    """A style, a script or the icon. Raises `NotFound`."""
    return _answer(name)
