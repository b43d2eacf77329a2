import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel, and return the names of its files."""
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(path).namelist())


def test_the_wheel_installs_no_name_but_backtest(wheel):
    assert {name.split("/")[0] for name in wheel} == {"backtest", "ib_backtest-0.1.0.dist-info"}


def test_the_wheel_carries_all_that_the_demo_needs(wheel):
    sample = {path.relative_to(ROOT / "data") for path in (ROOT / "data" / "sample").rglob("*") if path.is_file()}

    assert {f"backtest/_bundled/{path}" for path in sample} <= wheel
    assert {f"backtest/_bundled/strategies/{name}.py" for name in ("buy_and_hold", "sma_cross")} <= wheel
    assert {"backtest/templates/report.html", "backtest/py.typed", "backtest/README.md"} <= wheel


def test_the_wheel_has_every_module(wheel):
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "backtest").rglob("*.py")}

    assert modules <= wheel


def test_the_wheel_has_every_file_of_the_templates(wheel):
    templates = {path for path in (ROOT / "backtest" / "templates").rglob("*") if path.is_file()}
    kept = {str(path.relative_to(ROOT)) for path in templates if "__pycache__" not in path.parts}

    assert kept <= wheel
    assert "backtest/templates/new/every/.github/workflows/strategies.yml" in kept
