"""A hook of MkDocs: adds pages from outside `docs` to the site, and makes links to files of the repository work."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
# Pages that are not in docs/ under their name in the site.
MOVED = {
    "README.md": "index.md",
    "docs/README.md": "all-pages.md",
    "strategies/README.md": "strategies.md",
    "data/README.md": "sample.md",
    "backtest/README.md": "map.md",
    ".github/CONTRIBUTING.md": "contributing.md",
    ".github/SECURITY.md": "security.md",
    "CHANGELOG.md": "changes.md",
}
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from elsewhere, and the files that pages link to."""
    files.remove(files.src_uris["README.md"])
    for place, uri in MOVED.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / place)))
    for page in files.documentation_pages():
        for _, place in _links(page.content_string, page.src_uri):
            uri = _uri(place)
            if uri not in files.src_uris and (ROOT / place).is_file():
                files.append(File.generated(config, uri, abs_src_path=str(ROOT / place)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to where their files are in the site; one that leads nowhere stays, and MkDocs refuses it."""
    here = posixpath.dirname(page.file.src_uri)
    for link, place in _links(markdown, page.file.src_uri):
        uri = _uri(place)
        if uri in files.src_uris:
            markdown = re.sub(rf"(?<=\]\(){re.escape(link)}(?=[)#])", posixpath.relpath(uri, here or "."), markdown)
    return markdown


def _links(markdown: str, uri: str) -> list[tuple[str, str]]:
    """Return the links of a page to files, each with the place in the repository that it names."""
    place = next((place for place, moved in MOVED.items() if moved == uri), f"docs/{uri}")
    found = dict.fromkeys(LINK.findall(markdown))
    return [(link, posixpath.normpath(posixpath.join(posixpath.dirname(place), link))) for link in found]


def _uri(place: str) -> str:
    """Return where a file of the repository is in the site."""
    if place in MOVED:
        return MOVED[place]
    return place.removeprefix("docs/") if place.startswith("docs/") else f"files/{place.lstrip('.')}"
