"""What the package's modules and names are called: one word for one thing, and each thing in one place."""

import ast
import subprocess
import sys
from collections import defaultdict
from importlib import import_module
from pathlib import Path

import pytest

import backtest
from backtest import metrics
from backtest.cli.app import COMMANDS

PACKAGE = Path(backtest.__file__).parent
MOST_FILES = 14
FACES = ["__init__.py", "metrics/__init__.py"]  # lazy: they name what their rooms show to everybody
VERBS = {command.__name__ for command in COMMANDS}


def modules(package):
    """Return the package's modules, without the files that `backtest new` copies."""
    return sorted(
        path for path in package.rglob("*.py") if "templates" not in path.parts and "_bundled" not in path.parts
    )


def public_names(module):
    """Yield the functions, classes and types of a module that others may use; constants are written in capitals."""
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
        else:
            names = []
        yield from (name for name in names if not name.startswith("_") and not name.isupper())


def twice_defined(package):
    """Return the public names that more than one module defines; what stands behind a command does not count."""
    homes = defaultdict(list)
    for module in modules(package):
        if module.name == "ledger.py":  # scalar code that is read as source, by which nothing is imported by name
            continue
        for name in public_names(module):
            if not (module.parent == package / "cli" and name in VERBS):
                homes[name].append(module.relative_to(package).as_posix())
    return {name: where for name, where in homes.items() if len(where) > 1}


@pytest.mark.slow
def test_no_public_name_is_defined_in_two_modules():
    assert twice_defined(PACKAGE) == {}


def test_a_name_that_two_modules_define_is_seen(tmp_path):
    (tmp_path / "cli").mkdir()
    (tmp_path / "bars.py").write_text("def run(): ...\nclass Bar: ...\nSpan = int\nLIMIT = 1\n_own = 2\n")
    (tmp_path / "runs.py").write_text("async def run(): ...\nclass Bar: ...\nSpan: type = str\nLIMIT = 2\n_own = 3\n")
    (tmp_path / "cli" / "runs.py").write_text("def run(): ...\ndef download(): ...\n")

    found = twice_defined(tmp_path)

    assert found == {name: ["bars.py", "runs.py"] for name in ("run", "Bar", "Span")}


@pytest.mark.parametrize("face", [backtest, metrics])
def test_no_module_beside_a_face_is_named_like_one_of_its_names(face):
    """`import package.name` would put the module in the place of the name."""
    beside = {path.stem for path in Path(face.__file__).parent.iterdir() if path.suffix == ".py" or path.is_dir()}

    assert beside.isdisjoint([*face._HOMES, *getattr(face, "_TYPES", ())])


@pytest.mark.parametrize("face", [backtest, metrics])
def test_a_face_gives_what_it_promises_to_a_type_checker_and_nothing_else(face):
    promised = {
        alias.name: node.module
        for node in ast.walk(ast.parse(Path(face.__file__).read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("backtest.")
        for alias in node.names
    }
    homes = {name: f"{face.__name__}.{home}" for name, home in {**face._HOMES, **getattr(face, "_TYPES", {})}.items()}

    assert promised == homes
    assert sorted(face.__all__) == sorted(face._HOMES)
    assert all(getattr(face, name) is getattr(import_module(home), name) for name, home in homes.items())
    assert set(homes) <= set(dir(face))
    with pytest.raises(AttributeError, match="no attribute 'unheard_of'"):
        face.unheard_of  # noqa: B018


@pytest.mark.parametrize("code", ["import backtest", "import backtest.metrics", "import backtest.cli.app"])
def test_importing_a_face_or_the_command_line_loads_neither_pandas_nor_backtrader(code):
    heavy = "{'backtrader', 'ib_insync', 'ib_async', 'matplotlib', 'numpy', 'pandas', 'pyarrow'}"
    shown = f"import sys; {code}; print(sorted({heavy} & set(sys.modules)))"

    ran = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)

    assert ran.stdout == "[]\n"


def test_a_room_says_what_it_holds_and_nothing_else():
    rooms = [path for path in modules(PACKAGE) if path.name == "__init__.py"]
    trees = {
        path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in rooms
        if path.relative_to(PACKAGE).as_posix() not in FACES
    }

    assert [room for room, tree in trees.items() if len(tree.body) != 1 or not ast.get_docstring(tree)] == []
    assert all((folder / "__init__.py") in rooms for folder in {path.parent for path in modules(PACKAGE)})


def test_no_folder_has_more_files_than_a_person_takes_in_at_a_glance():
    counts = defaultdict(int)
    for module in modules(PACKAGE):
        counts[module.parent.relative_to(PACKAGE).as_posix()] += 1

    assert {folder: count for folder, count in counts.items() if count > MOST_FILES} == {}
