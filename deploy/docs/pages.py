"""What `mkdocs.yml` asks for: the pages of the repository's root, as pages of the site.

README, changes and contributing lie outside `docs/`, and pages link to them and they to pages. They
become `about/*.md`, and the links follow. Runs in the environment of `make site` only.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOTS = {name: f"about/{name.lower()}" for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")}
"""Pages of the root, and where the site has them."""
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the root's pages."""
    root = Path(config.docs_dir).parent
    for name, path in ROOTS.items():
        text = _LINK.sub(lambda link: _from_root(link[1]), (root / name).read_text("utf-8"))
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links of pages to the root's lead to where these are."""
    folder = posixpath.dirname(page.file.src_uri)

    def follow(link: re.Match[str]) -> str:
        name = posixpath.normpath(posixpath.join(folder, link[1])).removeprefix("../")
        if name not in ROOTS or not link[1].startswith("../"):
            return link[1]
        return posixpath.relpath(ROOTS[name], folder or ".")

    return _LINK.sub(follow, markdown)


def _from_root(link: str) -> str:
    """A link of a page of the root, as its page of the site needs it."""
    if link in ROOTS:
        return posixpath.basename(ROOTS[link])
    return f"../{link.removeprefix('docs/')}" if link.startswith("docs/") else link
