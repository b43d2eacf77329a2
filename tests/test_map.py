"""The map in backtest/README.md is true: each file has its row, and imports only what the map lets it."""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

PACKAGE = "backtest"
MAP = f"{PACKAGE}/README.md"
HEADER = "| file | what it holds | packages |"
# The public face of the package may show anything inside; so nothing stands below it.
FACES = ("__init__.py", "__main__.py")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the map: a file, the packages it may import, and the files below that its functions may."""

    line: int
    file: str
    packages: frozenset[str]
    doors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Import:
    """An import in a file: its line, the full dotted name, and whether it waits for a call."""

    line: int
    name: str
    late: bool


def parse_map(text: str) -> list[Row]:
    """Return the rows of the table that has the map's header; none where no table has it."""
    lines = [line.strip() for line in text.splitlines()]
    if HEADER not in lines:
        return []
    first = lines.index(HEADER) + 2
    end = next((n for n in range(first, len(lines)) if not lines[n].startswith("|")), len(lines))
    return [_row(n + 1, lines[n]) for n in range(first, end)]


def violations(rows: list[Row], sources: dict[str, str]) -> list[str]:
    """
    Return in what the map and the files differ, as `path:line: what is wrong`.

    Args:
        rows: the map, from the top.
        sources: the text of every file in the package, by its path in there: "sources/ib.py".
    """
    if not rows:
        return [f"{MAP}:1: no table is headed {HEADER}"]
    wrong = [_wrong_with_row(row, rows[:position], sources) for position, row in enumerate(rows)]
    wrong += [_wrong_with_file(file, rows, sources) for file in sorted(sources)]
    return list(dict.fromkeys(chain.from_iterable(wrong)))


def imports(file: str, source: str) -> list[Import]:
    """Return what a file imports when it is loaded or its functions are called, not what for types alone."""
    return list(_imports(ast.parse(source), _package_of(file), late=False))


def _row(line: int, text: str) -> Row:
    file, holds, packages = (cell.strip() for cell in re.split(r"(?<!\\)\|", text)[1:-1])
    doors = re.search(r"\bdoors? to ((?:(?:, | and |, and )?`[^`]+`)+)", holds)
    names = re.findall(r"`([^`]+)`", doors[1]) if doors else []
    return Row(
        line=line,
        file=file.strip("`"),
        packages=frozenset(re.findall(r"\w+", packages)),
        doors=tuple(name.removesuffix(".py") for name in names),
    )


def _wrong_with_row(row: Row, above: list[Row], sources: dict[str, str]) -> Iterator[str]:
    if row.file not in sources:
        yield f"{MAP}:{row.line}: {row.file} has a row, but there is no such file"
    if row.file in [other.file for other in above]:
        yield f"{MAP}:{row.line}: {row.file} has a second row"
    if row.file not in FACES and any(other.file in FACES for other in above):
        yield f"{MAP}:{row.line}: {row.file} stands below the public face, which comes last"
    for door in row.doors:
        if not any(_leads_to(door, file) for file in sources):
            yield f"{MAP}:{row.line}: {row.file} has a door to {door}, but there is no such file"


def _wrong_with_file(file: str, rows: list[Row], sources: dict[str, str]) -> Iterator[str]:
    position = next((n for n, row in enumerate(rows) if row.file == file), None)
    if position is None:
        yield f"{PACKAGE}/{file}:1: has no row in {MAP}"
        return
    above = {row.file for row in rows[:position]}
    for found in imports(file, sources[file]):
        wrong = _wrong_with_import(found, rows[position], above, sources)
        if wrong:
            yield f"{PACKAGE}/{file}:{found.line}: {wrong}"


def _wrong_with_import(found: Import, row: Row, above: set[str], sources: dict[str, str]) -> str:
    top = found.name.partition(".")[0]
    if top != PACKAGE:
        free = top in sys.stdlib_module_names or top in row.packages
        return "" if free else f"imports {top}, which its row does not name"
    file = _file_of(found.name, sources)
    if row.file in FACES or file in above:
        return ""
    if any(_leads_to(door, file) for door in row.doors):
        return "" if found.late else f"imports {file} at module level; a door opens only inside functions"
    return f"imports {file}, which is not above it in the map"


def _leads_to(door: str, file: str) -> bool:
    return PurePosixPath(file).match(f"{door}.py")


def _package_of(file: str) -> str:
    return ".".join([PACKAGE, *PurePosixPath(file).parent.parts])


def _file_of(name: str, sources: dict[str, str]) -> str:
    """Return the file that holds a dotted name of the package: the longest beginning of it that is one."""
    parts = name.split(".")[1:]
    for length in range(len(parts), 0, -1):
        path = "/".join(parts[:length])
        for file in (f"{path}.py", f"{path}/__init__.py"):
            if file in sources:
                return file
    return "__init__.py"


def _imports(node: ast.AST, package: str, late: bool) -> Iterator[Import]:
    for name in _names(node, package):
        yield Import(node.lineno, name, late)
    for child in _children(node):
        yield from _imports(child, package, late or _is_body(child, node))


def _names(node: ast.AST, package: str) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=module, names=names, level=level):
            start = _absolute("." * level + (module or ""), package)
            return [f"{start}.{alias.name}" for alias in names]
        case ast.Call(
            func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__"),
            args=[ast.Constant(value=str(name)), *_],
        ):
            return [_absolute(name, package)]
    return []


def _children(node: ast.AST) -> list[ast.AST]:
    match node:
        case ast.If(test=ast.Name("TYPE_CHECKING") | ast.Attribute(_, "TYPE_CHECKING"), orelse=otherwise):
            return list(otherwise)
    return list(ast.iter_child_nodes(node))


def _is_body(child: ast.AST, node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and child in node.body


def _absolute(name: str, package: str) -> str:
    """Return a name without its leading dots: each after the first goes up one package."""
    level = len(name) - len(name.lstrip("."))
    if not level:
        return name
    start = package.split(".")
    return ".".join([*start[: len(start) - level + 1], *filter(None, name.lstrip(".").split("."))])


TABLE = """
| file | what it holds | packages |
|---|---|---|
| `bars.py` | `Series`; `str \\| None` | pyarrow |
| `sources/__init__.py` | `connect`; a door to `ib` | – |
| `sources/ib.py` | the client's end | ib_insync |
| `result.py` | `RunResult`; doors to `metrics`, `report` | numpy, pandas |
| `metrics.py` | numbers about a run | numpy |
| `report.py` | the page | – |
| `__init__.py` | the public face | – |

After it.
"""
FILES = {row.file: "" for row in parse_map(TABLE)}


def wrong_when(planted: dict[str, str]) -> list[str]:
    return violations(parse_map(TABLE), FILES | planted)


def test_the_map_of_this_package_is_true() -> None:
    folder = Path(__file__).parents[1] / PACKAGE
    files = (path for path in folder.rglob("*.py") if folder / "templates" not in path.parents)  # no part of it
    sources = {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in files}

    wrong = violations(parse_map((folder / "README.md").read_text("utf-8")), sources)

    assert wrong == []


def test_a_row_tells_file_packages_and_doors() -> None:
    rows = parse_map(TABLE)

    assert rows[0] == Row(line=4, file="bars.py", packages=frozenset({"pyarrow"}), doors=())
    assert rows[3] == Row(7, "result.py", frozenset({"numpy", "pandas"}), ("metrics", "report"))
    assert rows[-1].file == "__init__.py"


def test_a_text_without_the_table_is_no_map() -> None:
    wrong = violations(parse_map("# Nothing\n"), FILES)

    assert wrong == ["backtest/README.md:1: no table is headed | file | what it holds | packages |"]


def test_a_file_needs_a_row() -> None:
    wrong = wrong_when({"feed.py": "import numpy\n"})

    assert wrong == ["backtest/feed.py:1: has no row in backtest/README.md"]


def test_a_row_needs_a_file() -> None:
    table = TABLE.replace("`bars.py`", "`feed.py`")

    wrong = violations(parse_map(table), {**FILES, "bars.py": ""})

    assert "backtest/README.md:4: feed.py has a row, but there is no such file" in wrong


def test_a_file_has_one_row() -> None:
    table = TABLE.replace("`report.py`", "`metrics.py`")

    wrong = violations(parse_map(table), FILES)

    assert "backtest/README.md:9: metrics.py has a second row" in wrong


def test_the_public_face_comes_last() -> None:
    table = TABLE.replace("`bars.py`", "`__main__.py`")

    wrong = violations(parse_map(table), FILES | {"__main__.py": ""})

    assert "backtest/README.md:5: sources/__init__.py stands below the public face, which comes last" in wrong


def test_a_door_needs_a_file() -> None:
    table = TABLE.replace("`metrics`, `report`", "`figures`")

    wrong = violations(parse_map(table), FILES)

    assert wrong == ["backtest/README.md:7: result.py has a door to figures, but there is no such file"]


def test_an_import_from_below_is_wrong() -> None:
    wrong = wrong_when({"bars.py": "import math\n\nfrom backtest.metrics import sharpe, sortino\n"})

    assert wrong == ["backtest/bars.py:3: imports metrics.py, which is not above it in the map"]


def test_an_import_from_above_is_right() -> None:
    wrong = wrong_when({"report.py": "from backtest import metrics\nfrom backtest.bars import Series\n"})

    assert wrong == []


def test_an_import_of_the_public_face_is_wrong_inside() -> None:
    wrong = wrong_when({"report.py": "from backtest import Series\n"})

    assert wrong == ["backtest/report.py:1: imports __init__.py, which is not above it in the map"]


def test_an_import_inside_a_function_counts() -> None:
    wrong = wrong_when({"bars.py": "def page():\n    import backtest.report\n"})

    assert wrong == ["backtest/bars.py:2: imports report.py, which is not above it in the map"]


def test_a_relative_import_counts() -> None:
    wrong = wrong_when({"sources/ib.py": "from . import connect\nfrom ..bars import Series\nfrom .. import report\n"})

    assert wrong == ["backtest/sources/ib.py:3: imports report.py, which is not above it in the map"]


def test_an_import_by_a_literal_name_counts() -> None:
    wrong = wrong_when({"bars.py": "import importlib\n\nimportlib.import_module('backtest.metrics')\n"})

    assert wrong == ["backtest/bars.py:3: imports metrics.py, which is not above it in the map"]


def test_an_import_by_a_relative_literal_name_counts() -> None:
    wrong = wrong_when({"sources/ib.py": "import_module('..report', __package__)\n"})

    assert wrong == ["backtest/sources/ib.py:1: imports report.py, which is not above it in the map"]


def test_a_package_that_the_row_does_not_name_is_wrong() -> None:
    wrong = wrong_when({"metrics.py": "import numpy as np\nfrom scipy.stats import norm\n"})

    assert wrong == ["backtest/metrics.py:2: imports scipy, which its row does not name"]


def test_an_import_for_types_alone_is_free() -> None:
    wrong = wrong_when({"bars.py": "if TYPE_CHECKING:\n    import pandas\n    import backtest.report\n"})

    assert wrong == []


def test_the_other_branch_of_an_import_for_types_counts() -> None:
    wrong = wrong_when({"bars.py": "if typing.TYPE_CHECKING:\n    import pandas\nelse:\n    import polars\n"})

    assert wrong == ["backtest/bars.py:4: imports polars, which its row does not name"]


def test_a_door_opens_inside_a_function() -> None:
    wrong = wrong_when({"result.py": "def stats():\n    from backtest.metrics import measure\n"})

    assert wrong == []


def test_a_door_of_a_folder_opens_to_a_file_beside_it() -> None:
    wrong = wrong_when({"sources/__init__.py": "def connect():\n    from .ib import Client\n"})

    assert wrong == []


def test_a_door_is_shut_at_module_level() -> None:
    wrong = wrong_when({"result.py": "from backtest.metrics import measure\n"})

    assert wrong == ["backtest/result.py:1: imports metrics.py at module level; a door opens only inside functions"]


def test_the_body_of_a_class_is_module_level() -> None:
    wrong = wrong_when({"result.py": "class RunResult:\n    import backtest.report\n"})

    assert wrong == ["backtest/result.py:2: imports report.py at module level; a door opens only inside functions"]


def test_the_public_face_may_import_all_that_is_inside() -> None:
    wrong = wrong_when({"__init__.py": "from backtest import report\nfrom backtest.bars import Series\n"})

    assert wrong == []


def test_the_public_face_needs_its_packages_named_too() -> None:
    wrong = wrong_when({"__init__.py": "import numpy\n"})

    assert wrong == ["backtest/__init__.py:1: imports numpy, which its row does not name"]
