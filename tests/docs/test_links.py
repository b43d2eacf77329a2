"""Every link in a page of this repository leads to a file that is there and, if it names one, to a heading in it."""

import re
from itertools import count

import pytest
from places import ROOT

ELSEWHERE = ("http://", "https://", "mailto:")  # is not asked for
FENCE = re.compile(r"^ *(`{3,}|~{3,}).*?^ *\1 *$", re.DOTALL | re.MULTILINE)
NOT_OURS = re.compile(r"\.(?!github)|build|dist|runs|node_modules")  # folders of tools, and of what they make


def pages(folder):
    """Yield the pages in a folder of ours and below."""
    yield from folder.glob("*.md")
    for child in folder.iterdir():
        if child.is_dir() and not child.is_symlink() and not NOT_OURS.match(child.name):
            yield from pages(child)


PAGES = sorted(path.relative_to(ROOT).as_posix() for path in pages(ROOT))


def broken(page):
    """Return the links of a page that lead nowhere."""
    text = prose(page.read_text("utf-8"))
    inline = re.findall(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)", text)
    defined = re.findall(r"^\[[^\]]+\]:\s+(\S+)", text, re.MULTILINE)
    tags = re.findall(r"\b(?:href|src)=\"([^\"]+)\"", text)
    return [link for link in [*inline, *defined, *tags] if not link.startswith(ELSEWHERE) and not leads(page, link)]


def leads(page, link):
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    return target.exists() and (not anchor or (target.suffix == ".md" and anchor in anchors(target.read_text("utf-8"))))


def anchors(text):
    """Return the addresses of a page's headings as GitHub makes them: of equal ones, the second ends in -1."""
    found = set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))
    for heading in re.findall(r"^#{1,6} +(.+?)(?: +#+)?$", re.sub(FENCE, "", text), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.add(next(one for n in count() if (one := f"{slug}-{n}" if n else slug) not in found))
    return found


def prose(text):
    """Return a page without what is shown as code."""
    return re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", re.sub(FENCE, "", text))


@pytest.mark.parametrize("page", PAGES)
def test_no_link_is_broken(page):
    assert broken(ROOT / page) == []


def test_the_pages_that_everybody_reads_are_among_them():
    assert {"README.md", ".github/CONTRIBUTING.md", "backtest/README.md", "docs/glossary.md"} <= set(PAGES)


@pytest.mark.parametrize(
    "link",
    ["[a](none.md)", "[a](#none)", "[a](other.md#none)", "![a](none.png)", "[a]: none.md", '<img src="none.png">'],
)
def test_a_link_that_leads_nowhere_is_found(tmp_path, link):
    (tmp_path / "other.md").write_text("# Other\n")
    (tmp_path / "page.md").write_text(f"# Page\n\n{link}\n")

    assert len(broken(tmp_path / "page.md")) == 1


@pytest.mark.parametrize(
    "link",
    ["[a](other.md)", "[a](#page)", "[a](other.md#two-words-1)", "[a](https://example.com/none#none)", "`[a](none.md)`",
     "```\n[a](none.md)\n```", '[a](other.md "why")'],
)  # fmt: skip
def test_a_link_that_leads_somewhere_or_is_none_is_not(tmp_path, link):
    (tmp_path / "other.md").write_text("# Two `words`\n\n## Two, words\n")
    (tmp_path / "page.md").write_text(f"# Page\n\n{link}\n")

    assert broken(tmp_path / "page.md") == []
