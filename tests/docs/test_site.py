"""The site is built strictly; every link in it leads to a page and a heading, and it loads nothing from a network."""

import json
import os
import re
import subprocess
import sys
from urllib.parse import unquote

import pytest
from places import ROOT

REFERENCE = re.compile(r'<(\w+)\b[^>]*?\s(?:href|src)="?([^"\s>]+)')
ADDRESS = re.compile(r'\s(?:id|name)="?([^"\s>]+)')
UNKNOWN_TYPE = re.compile(r'title="(backtest(?:\.[a-z][\w]*)+\.[A-Z]\w*[a-z]\w*)"')
TAKEN_BY_LINKS = ("a",)  # what a reader may follow to elsewhere; everything else is loaded with the page
PAGE_OF_ERRORS = "404.html"  # is served at any address, and so has addresses from the root on


@pytest.mark.docs
def test_the_site_is_built_strictly_and_every_link_in_it_leads_somewhere(tmp_path):
    build = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path / "site")]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # the theme's news of its successor
    made = subprocess.run(build, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert (made.returncode, made.stderr) == (0, "")

    site = read(tmp_path / "site")
    found = json.loads((tmp_path / "site" / "search" / "search_index.json").read_text("utf-8"))["docs"]

    assert broken(site, tmp_path / "site") == []
    assert loaded_from_elsewhere(site) == []
    assert undocumented(site) == set()
    assert {"reference/python/runs.html#backtest.api.run", "index.html"} <= {one["location"] for one in found}
    assert 'class="mermaid"' not in "".join(site.values())  # would be drawn by a script from the network


def read(folder):
    """Return the pages of a site by their paths."""
    return {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in folder.rglob("*.html")}


def broken(site, folder):
    """Return the links between pages that lead to no file, or to no heading of a page."""
    addresses = {name: set(map(unquote, ADDRESS.findall(text))) for name, text in site.items()}
    bad = []
    for name, text in site.items():
        for _, link in REFERENCE.findall(text):
            if "://" in link or link.startswith(("mailto:", "data:")) or name == PAGE_OF_ERRORS:
                continue
            path, _, address = link.partition("#")
            target = (folder / name).parent / unquote(path) if path else folder / name
            if not target.is_file():
                bad.append((name, link))
            elif address and (page := target.resolve().relative_to(folder.resolve()).as_posix()) in addresses:
                bad += [(name, link)] if unquote(address) not in addresses[page] else []
    return bad


def loaded_from_elsewhere(site):
    """Return what a page would load from a network by itself: scripts, styles, fonts, pictures."""
    return [
        (name, link)
        for name, text in site.items()
        for tag, link in REFERENCE.findall(text)
        if tag not in TAKEN_BY_LINKS and link.startswith(("http:", "https:", "//"))
    ]


def undocumented(site):
    """Return the types of ours in signatures that no page describes: mkdocstrings has a title there, and no link."""
    return {name for text in site.values() for name in UNKNOWN_TYPE.findall(text)}


def test_the_list_of_all_pages_has_each_page():
    docs = ROOT / "docs"
    listed = set(re.findall(r"\]\(([^)#]+\.md)", (docs / "README.md").read_text("utf-8")))
    pages = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")} - {"README.md"}

    assert {page for page in pages if page not in listed and not page.startswith("reference/python/")} == set()


def test_a_link_that_leads_to_no_file_or_to_no_heading_is_found(tmp_path):
    page = '<h1 id="here">x</h1><a href="other.html">x</a><a href="#there">x</a><a href="#here">x</a><a href=page.html>'
    (tmp_path / "page.html").write_text(page)

    assert broken(read(tmp_path), tmp_path) == [("page.html", "other.html"), ("page.html", "#there")]


def test_a_font_from_the_network_is_found_and_a_link_to_another_site_is_none():
    page = '<link rel="stylesheet" href="https://fonts.example/css"><a href="https://example.com">x</a>'

    assert loaded_from_elsewhere({"page.html": page}) == [("page.html", "https://fonts.example/css")]


def test_a_type_that_no_page_describes_is_found():
    assert undocumented({"page.html": '<span title="backtest.runs.spec.Grid">Grid</span>'}) == {
        "backtest.runs.spec.Grid"
    }
