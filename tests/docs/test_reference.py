"""The pages of `docs/reference` are what the code says today; `python docs/reference.py` writes them anew."""

import re

import pytest
import reference
import typer
from counts import COUNTED
from making import ib, metrics
from making.markdown import plain

import backtest
import backtest.metrics as numbers
from backtest.cli.app import app
from backtest.market import ib_limits
from backtest.metrics.table import METRICS

ERRORS = ("BacktestError", "UsageError")  # their page describes the whole module
OTHERS_OF_METRICS = ("METRICS", "Drawdown", "Metric", "Moments", "Stats", "measure", "measure_returns")  # elsewhere
COMMANDS = {name: one for name, one in typer.main.get_command(app).commands.items() if not one.hidden}


def committed(name):
    return (reference.FOLDER / name).read_text("utf-8")


def directives():
    """Return what the pages of the Python reference have mkdocstrings describe, such as "backtest.api.run"."""
    pages = sorted((reference.FOLDER / "python").glob("*.md"))
    return [path for page in pages for path in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.MULTILINE)]


def path_of(face, name):
    return f"{getattr(face, name).__module__}.{name}"


def section(text, heading):
    """Return what stands below a heading of the second order, up to the next one."""
    return re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)[1]


@pytest.mark.parametrize("name", reference.PAGES)
def test_a_page_is_what_its_command_would_write_now(name):
    assert committed(name) == reference.PAGES[name](), "write it anew: python docs/reference.py"


def test_no_page_lies_there_that_nothing_writes():
    assert {path.name for path in reference.FOLDER.glob("*.md")} == set(reference.PAGES)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_and_option_of_a_command_is_explained(name):
    text = section(committed("commands.md"), name)

    for parameter in COMMANDS[name].params:
        if getattr(parameter, "hidden", False):
            assert f"| `{parameter.opts[0]} " not in text
            continue
        spelled = f"| `{parameter.opts[0]}" if parameter.opts[0].startswith("--") else "| `"
        rows = [line for line in text.splitlines() if line.startswith(spelled)]
        assert any(plain(parameter.help).replace("|", "\\|") in row for row in rows)
        assert not parameter.envvar or f"`{parameter.envvar}`" in committed("commands.md")


@pytest.mark.parametrize("name", [*backtest.__all__, *backtest._TYPES])
def test_every_public_name_is_on_one_page_of_the_python_reference(name):
    assert directives().count(path_of(backtest, name)) + (name in ERRORS) == 1


@pytest.mark.parametrize("name", [name for name in numbers.__all__ if name not in OTHERS_OF_METRICS])
def test_every_function_of_metrics_is_on_one_page_of_the_python_reference(name):
    assert directives().count(path_of(numbers, name)) == 1


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_explained_with_its_unit_and_where_it_is_undefined(name):
    text = committed("metrics.md").partition(f"### {name}\n")[2].partition("\n#")[0]

    assert METRICS[name].label in text
    assert METRICS[name].definition.split()[0] in text
    assert "- Unit: " in text
    assert "- Undefined: " in text


def test_only_what_is_known_of_nothing_is_said_to_be_always_defined():
    assert {name for name in METRICS if metrics.never_or_when(name) == "never"} == COUNTED


def test_every_code_of_ib_that_is_known_by_itself_is_explained_and_no_other():
    assert sorted(ib._WORDS) == ib.codes()


def test_every_number_that_ib_allows_is_shown():
    numbers = {name for name, value in vars(ib_limits).items() if isinstance(value, int | float)}

    assert {name for name in numbers if f"| `{name}` |" not in committed("ib-errors.md")} == set()
    assert {size for size in ib_limits.PRACTICAL if f"| {size} |" not in committed("ib-errors.md")} == set()
