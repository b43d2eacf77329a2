"""The house is kept: files of one noun, functions of one thing; what is longer says why."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONGEST_FILE, LONGEST_FUNCTION = 500, 60
REASON = "Long by its"  # how a docstring begins to say why


def too_long(source):
    """Return the functions of a source that are too long and do not say why."""
    functions = (one for one in ast.walk(ast.parse(source)) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))
    long = (one for one in functions if one.end_lineno - one.lineno >= LONGEST_FUNCTION)
    return [one.name for one in long if REASON not in (ast.get_docstring(one) or "")]


@pytest.mark.parametrize("folder", ["backtest", "strategies"])
def test_no_file_has_so_many_lines_that_it_must_hold_two_nouns(folder):
    lengths = {path: len(path.read_text().splitlines()) for path in (ROOT / folder).rglob("*.py")}

    assert lengths
    assert {str(path): length for path, length in lengths.items() if length > LONGEST_FILE} == {}


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["backtest", "strategies"])
def test_a_long_function_says_why(folder):
    found = {str(path): too_long(path.read_text()) for path in (ROOT / folder).rglob("*.py")}

    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("lines", "words", "names"), [(59, "", []), (60, "", ["f"]), (60, '"""Long by its list."""', [])]
)
def test_a_function_of_sixty_lines_is_the_longest_without_a_reason(lines, words, names):
    source = "\n".join(["def f():", f"    {words or 'pass'}", *["    pass"] * (lines - 1)])

    assert too_long(source) == names
