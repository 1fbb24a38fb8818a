"""Serves the page and its two static parts; the page reads the public API only."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, Response

from ..errors import NotFound

router = APIRouter(include_in_schema=False)
_PARTS = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def _read(name: str) -> bytes:
    return (files(__package__) / "static" / name).read_bytes()


@router.get("/")
async def page() -> Response:
    """The page."""
    headers = {"Content-Security-Policy": _POLICY}
    return Response(_read("page.html"), headers=headers, media_type="text/html; charset=utf-8")


@router.get("/static/{name}")
async def part(name: str) -> Response:
    """Its style or its script. Raises `NotFound`."""
    if name not in _PARTS:
        raise NotFound
    return Response(_read(name), media_type=_PARTS[name])
