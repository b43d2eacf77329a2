"""The order of the rooms, which import-linter's contracts hold, and that no files import in a circle."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from places import ROOT
from rights import HAVE_GIT

PACKAGE = ROOT / "backtest"
TOP = {  # what the project's users look at, and what tools read at the root
    "pyproject.toml", "README.md", "backtest", "data", "strategies", "notebooks", "tests", "docs",
    "CHANGELOG.md", "CITATION.cff", "LICENSE", "Makefile", "mkdocs.yml",
    ".ci", ".git-blame-ignore-revs", ".gitattributes", ".github", ".gitignore",
}  # fmt: skip
FACES = {"backtest", "backtest.metrics"}  # they name what their rooms have; nothing inside the package imports them


def modules(package):
    """Return the package's modules by name, without the files that `backtest new` copies."""
    paths = (path for path in package.rglob("*.py") if not {"templates", "_bundled"} & set(path.parts))
    return {
        ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in paths
    }


@cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def import_nodes(path):
    """Return the imports of a file, anywhere in it: in functions and for types too."""
    return [node for node in statements(tree_of(path)) if isinstance(node, ast.Import | ast.ImportFrom)]


def statements(node):
    """Yield a block and all that is stated in it; a fifth of what `ast.walk` goes through, expressions too."""
    yield node
    for field in ("body", "handlers", "cases", "orelse", "finalbody"):
        for one in getattr(node, field, ()):
            yield from statements(one)


def imports(path, known):
    """Yield the modules that a file imports."""
    for node in import_nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield from [name] if name in known else [node.module] if node.module in known else []


def circles(package):
    """Return the groups of modules that import each other, directly or in a ring (Tarjan's components)."""
    paths = modules(package)
    graph = {name: sorted({*imports(path, paths)} - {name}) for name, path in paths.items() if name not in FACES}
    found, stack, numbers, lowest = [], [], {}, {}

    def visit(name):
        numbers[name] = lowest[name] = len(numbers)
        stack.append(name)
        for other in graph.get(name, ()):
            if other not in numbers:
                visit(other)
            if other in stack:
                lowest[name] = min(lowest[name], lowest[other])
        if lowest[name] == numbers[name]:
            place = stack.index(name)
            ring, stack[place:] = stack[place:], []
            if len(ring) > 1:
                found.append(sorted(ring))

    for name in graph:
        if name not in numbers:
            visit(name)
    return found


def importers_of(package, face):
    """Return the modules that import names from a lazy face, in place of the module that defines them."""
    paths = modules(package)
    return sorted(name for name, path in paths.items() if face in imports(path, paths))


def lint(folder):
    """Run import-linter on the package in a folder with the contracts of this repository."""
    command = Path(sys.executable).with_name("lint-imports")
    words = [str(command), "--no-logo", "--no-cache"]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path):
    """Return a folder with a copy of the package and of its contracts."""
    shutil.copytree(PACKAGE, tmp_path / "backtest", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def plant(folder, file, line):
    """Write a line at the end of a file of the copy."""
    path = folder / "backtest" / file
    path.write_text(f"{path.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")


@pytest.mark.slow
def test_no_files_import_each_other_in_a_circle():
    assert circles(PACKAGE) == []


@pytest.mark.slow
def test_no_file_of_the_package_imports_what_a_face_shows():
    assert [importers_of(PACKAGE, face) for face in sorted(FACES)] == [[], []]


def test_a_circle_is_found_whether_it_is_of_types_or_inside_functions(tmp_path):
    package = tmp_path / "backtest"
    package.mkdir()
    for name, text in {
        "__init__": "",
        "bars": "def read():\n    import backtest.store\n",
        "store": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from backtest.feed import Feed\n",
        "feed": "from backtest import bars\n",
        "run": "from backtest.feed import Feed\nfrom backtest.bars import read\n",
    }.items():
        (package / f"{name}.py").write_text(text)

    assert circles(package) == [["backtest.bars", "backtest.feed", "backtest.store"]]


def test_an_import_is_found_wherever_it_may_be_written(tmp_path):
    lines = ["import a", "try:", " import b", "except ValueError:", " import c", "else:", " import d", "finally:",
             " import e", "match a:", " case 1:", "  with b:", "   import f", "class C:", " async def g():",
             "  import g", "  for _ in b:", "   while a:", "    if a:", "     pass", "    elif b:", "     import h",
             "  else:", "   import i", "if a:", " pass", "else:", " from j import j"]  # fmt: skip
    (tmp_path / "everywhere.py").write_text("\n".join(lines))

    assert [*imports(tmp_path / "everywhere.py", set("abcdefghij"))] == list("abcdefghij")


@pytest.mark.slow
def test_the_rooms_keep_the_contracts(copy):
    ran = lint(copy)

    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "line", "told"),
    [
        ("store/files.py", "from backtest.engine.feed import replay", "backtest.store is not allowed to import"),
        ("market/span.py", "def _late():\n    import backtest.cli.app", "backtest.market is not allowed to import"),
        (
            "runs/spec.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from backtest.validity.verdict import Verdict",
            "backtest.runs is not allowed to import",
        ),
        ("metrics/ratios.py", "from backtest.sources.base import Source", "backtest.metrics is not allowed to import"),
        ("report/figures.py", "from backtest.engine.feed import replay", "backtest.report is not allowed to import"),
        ("sources/base.py", "from backtest.emulator.server import Gateway", ""),
        ("emulator/archive.py", "from backtest.sources.ib.pacing import Budget", "backtest.emulator is not allowed"),
        ("metrics/ratios.py", "import backtrader", "backtest.metrics.ratios -> backtrader"),
        ("research/search/job.py", "import backtrader", "backtest.research.search.job -> backtrader"),
        ("downloads/retry.py", "import ib_insync", "backtest.downloads.retry -> ib_insync"),
        ("sources/files/folder.py", "def _late():\n    import ib_async", "backtest.sources.files.folder -> ib_async"),
        ("report/run_page.py", "import typer", "backtest.report.run_page -> typer"),
        ("onboarding/demo.py", "from rich.table import Table", "backtest.onboarding.demo -> rich"),
        ("store/files.py", "from backtest.store.store import Store", "No cycles are allowed in backtest.store"),
    ],
)
def test_an_import_against_the_order_is_found(copy, file, line, told):
    plant(copy, file, line)

    ran = lint(copy)

    if told:
        assert ran.returncode == 1
        assert told in " ".join(ran.stdout.split())
    else:
        assert ran.returncode == 0, ran.stdout


@pytest.mark.slow
def test_a_room_without_a_place_in_the_order_is_found(copy):
    (copy / "backtest" / "helpers").mkdir()
    (copy / "backtest" / "helpers" / "__init__.py").write_text('"""Odds and ends."""\n')

    ran = lint(copy)

    assert ran.returncode == 1
    assert "helpers" in ran.stdout


# --- the map: backtest/README.md

MAP = (PACKAGE / "README.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in row.split("|")[1:-1]] for row in re.findall(r"^\| `.*$", MAP, re.MULTILINE)]
EVERYWHERE = {"numpy", "pandas", "pyarrow"}


def files_of(place):
    """Return the files of a row of the map: those in the folder itself, or the file."""
    path = PACKAGE / place
    return sorted(path.glob("*.py")) if path.is_dir() else [path]


def packages_of(path):
    """Return the packages of others that a file imports."""
    nodes = import_nodes(path)
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"backtest"}


def test_the_map_has_a_row_for_each_room():
    listed = [place.rstrip("/") for row in ROWS for place in re.findall(r"`([^`]+)`", row[0])]
    rooms = {path.parent.relative_to(PACKAGE).as_posix() for path in modules(PACKAGE).values()} - {"."}
    tops = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py", "__main__.py"}

    assert sorted(listed) == sorted(rooms | tops)


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_of_the_map_names_what_its_room_defines_and_brings_in(row):
    files = [path for place in re.findall(r"`([^`]+)`", row[0]) for path in files_of(place)]
    defined = {
        name
        for path in files
        for node in tree_of(path).body
        for name in [
            getattr(node, "name", None),
            *(target.id for target in getattr(node, "targets", ()) if isinstance(target, ast.Name)),
            getattr(getattr(node, "target", None), "id", None),
        ]
    }

    assert [noun for noun in re.findall(r"`(\w+)`", row[2]) if noun not in defined] == []
    brought = set().union(*map(packages_of, files)) - EVERYWHERE
    assert set(re.findall(r"\w+", row[3])) == brought


def test_the_order_on_the_map_is_that_of_the_contract():
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    layers = next(one["layers"] for one in tools["importlinter"]["contracts"] if one["type"] == "layers")
    there = [layer for layer in layers if not layer.startswith("(") or (PACKAGE / f"{layer.strip('()')}.py").exists()]
    (order,) = re.findall(r"```text\n(.*?)```", MAP, re.DOTALL)

    assert [layer.strip("()") for layer in there] == [layer.strip().strip("()") for layer in order.split(">")]


def test_the_picture_on_the_map_shows_the_rooms():
    (picture,) = re.findall(r"^```\n(.*?)^```", MAP, re.DOTALL | re.MULTILINE)
    shown = set(re.findall(r"[a-z]+", re.sub(r'"[^"]*"', "", picture)))  # without what is no room
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}

    assert rooms - {"cli", "onboarding", "market"} == shown


@HAVE_GIT
def test_the_top_holds_what_belongs_there_and_nothing_that_was_left_by_trying():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert {name.split("/")[0] for name in listed.split("\0") if name} <= TOP
