import json
import re

import nbformat
import pytest
from notebook_outputs import NOTEBOOKS, executed, shown, tidy

pytestmark = pytest.mark.docs


def each(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.stem)


@each(NOTEBOOKS)
def test_a_notebook_shows_what_it_shows_when_it_is_run_again(path, tmp_path):
    kept = nbformat.read(path, as_version=4)

    again = executed(path, tmp_path)

    tidy(again)
    assert shown(again) == shown(kept)
    pictures = {text for cell in shown(kept) for text in cell if text.startswith("image/")}
    assert pictures == {"image/png"}


@each(NOTEBOOKS)
def test_a_notebook_is_kept_with_its_outputs_and_uses_public_names_only(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]

    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(bool(cell.outputs) for cell in cells) >= len(cells) - 2  # imports show nothing
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)
    imports = [line for cell in cells for line in cell.source.splitlines() if line.startswith("from backtest")]
    others = [line for cell in cells for line in cell.source.splitlines() if line not in imports]
    assert not any("backtest." in line.replace("_backtest.", "") for line in others)
    assert not any(" _" in line or "._" in line for line in imports)


@each(NOTEBOOKS)
def test_no_output_says_where_it_was_made(path):
    outputs = [cell.get("outputs", []) for cell in nbformat.read(path, as_version=4).cells]

    assert not re.search(r"/(?:tmp|root|home|Users)/", json.dumps(outputs))
    assert path.stat().st_size < 500_000
