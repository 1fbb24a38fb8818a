"""Walking over pages: the bodies of the clients' `iter_...` methods."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Protocol, TypeVar

ItemT = TypeVar("ItemT")
ItemCo = TypeVar("ItemCo", covariant=True)


class Page(Protocol[ItemCo]):
    """What every page has."""

    @property
    def items(self) -> Sequence[ItemCo]: ...

    @property
    def next_cursor(self) -> str | None: ...


def all_items(fetch: Callable[[str | None], Page[ItemT]]) -> Iterator[ItemT]:
    """Items of all pages; `fetch` gets the cursor, null for the first page."""
    cursor: str | None = None
    while True:
        page = fetch(cursor)
        yield from page.items
        cursor = page.next_cursor
        if cursor is None:
            return


async def all_items_async(
    fetch: Callable[[str | None], Awaitable[Page[ItemT]]],
) -> AsyncIterator[ItemT]:
    """As `all_items`, with an awaitable `fetch`."""
    cursor: str | None = None
    while True:
        page = await fetch(cursor)
        for item in page.items:
            yield item
        cursor = page.next_cursor
        if cursor is None:
            return
