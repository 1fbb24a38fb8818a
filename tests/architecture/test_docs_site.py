"""The site of `make site` shows every page, and pages are written so that it shows them right.

Without building it: `make site` does, with every link checked, in an environment of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

from support.markdown import pages
from support.tree import ROOT

ROOTS = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md"}
"""Pages outside `docs/`; `deploy/docs/pages.py` puts them under `about/`."""
_ITEM = re.compile(r"(?:[*+-]|\d+\.) ")


class Loader(yaml.SafeLoader):
    """Reads MkDocs' settings without making the objects that they name."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
SETTINGS = yaml.load((ROOT / "mkdocs.yml").read_text("utf-8"), Loader)


def entries(nav: object) -> Iterator[str]:
    """Paths of a navigation, groups opened."""
    if isinstance(nav, str):
        yield nav
    else:
        assert isinstance(nav, list | dict)
        for one in nav.values() if isinstance(nav, dict) else nav:
            yield from entries(one)


def test_the_navigation_has_every_page_once() -> None:
    docs = ROOT / "docs"
    there = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    about = {f"about/{name.lower()}" for name in ROOTS}
    shown = list(entries(SETTINGS["nav"]))
    assert there | about <= set(shown), "mkdocs.yml lacks a page in nav"
    assert set(shown) <= there | about, "mkdocs.yml names a page that is not there"
    assert len(shown) == len(set(shown))
    for name in (*SETTINGS["hooks"], *(f"docs/{css}" for css in SETTINGS["extra_css"])):
        assert (ROOT / name).is_file()


def test_a_list_stands_apart() -> None:
    """Right below a line of text it is a list for some readers, and more text for the site's."""
    for one in pages():
        for block in re.split(r"\n\s*\n", one.prose):
            first, *more = block.strip("\n").splitlines() or [""]
            if not _ITEM.match(first.lstrip()):
                assert not [line for line in more if _ITEM.match(line)], f"{one.name}: {first}"


def test_nothing_is_fetched_from_elsewhere() -> None:
    """No fonts of others, and no plug-in whose script lies on a server of others."""
    assert SETTINGS["theme"]["font"] is False
    assert SETTINGS["plugins"] == ["search"]
    assert SETTINGS["strict"] is True
