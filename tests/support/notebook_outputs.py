"""
The notebooks, run from top to bottom, and what of their outputs is the same on every machine.

Run:  python tests/support/notebook_outputs.py [NOTEBOOK]...        (writes the outputs anew)
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from places import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def executed(path: Path, folder: Path) -> Any:
    """Return a notebook after it was run in a folder that has the sample and the strategies beside it."""
    for name in ("data", "strategies"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "notebooks").mkdir()
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder / "notebooks"}}).execute()
    return notebook


def shown(notebook: Any) -> list[list[str]]:
    """Return what each cell of code shows, as far as it is the same everywhere; of a picture that there is one."""
    return [
        [text for output in cell.outputs for text in _texts(output)]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def tidy(notebook: Any) -> None:
    """Leave out of a notebook that was run what differs from time to time: bars with their seconds, and timestamps."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata["language_info"] = {"name": "python"}


def _texts(output: Any) -> list[str]:
    if output.output_type == "stream":
        return [] if output.name == "stderr" else [_known(output.text)]
    return [
        kind if kind.startswith("image/") else _known(text) for kind, text in sorted(output.get("data", {}).items())
    ]


def _known(text: str) -> str:
    """Return a text without hashes, which change with the code, and without addresses of objects."""
    return re.sub(r"\b0x[0-9a-f]+\b|\b[0-9a-f]{10,64}\b", "…", text)


def main(paths: list[Path]) -> None:
    """Run notebooks, and write them with their outputs."""
    for path in paths:
        with tempfile.TemporaryDirectory() as folder:
            notebook = executed(path, Path(folder))
        tidy(notebook)
        nbformat.write(notebook, path)
        print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main([Path(word).resolve() for word in sys.argv[1:]] or NOTEBOOKS)
