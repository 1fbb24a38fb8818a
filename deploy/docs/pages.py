"""What `mkdocs.yml` asks for: the pages of the repository's root, as pages of the site.

README, changes and contributing lie outside `docs/`, and pages link to them and they to pages. They
become `about/*.md`, and the links follow. Of a link to a file of the sources its words stay: the
site has no sources. Runs in the environment of `make site` only.
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
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the root's pages."""
    root = Path(config.docs_dir).parent
    for name, path in ROOTS.items():
        text = _followed((root / name).read_text("utf-8"), name, path, root)
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links of pages to what lies outside `docs/` lead somewhere."""
    path = page.file.src_uri
    if path in ROOTS.values():
        return markdown
    return _followed(markdown, f"docs/{path}", path, Path(config.docs_dir).parent)


def _followed(text: str, source: str, shown: str, root: Path) -> str:
    """A page's text with its links as the site needs them.

    Args:
        source: its path in the repository.
        shown: its path in the site.
    """

    def follow(link: re.Match[str]) -> str:
        words, target, anchor = link[1], link[2], link[3] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path in ROOTS:
            path = ROOTS[path]
        elif path.startswith("docs/"):
            path = path.removeprefix("docs/")
        elif (root / path).exists():
            return words
        else:
            return link[0]  # leads nowhere, and `--strict` says so
        return f"[{words}]({posixpath.relpath(path, posixpath.dirname(shown) or '.')}{anchor})"

    return _LINK.sub(follow, text)
