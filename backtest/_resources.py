"""`bundled`: where what comes along with the package lies, in a wheel as in a checkout."""

from __future__ import annotations

from pathlib import Path


def bundled(name: str) -> Path:
    """Return the path of a folder that comes with the package: "sample" or "strategies"."""
    packed = Path(__file__).parent / "_bundled" / name
    checkout = Path(__file__).parent.parent / {"sample": "data/sample"}.get(name, name)
    return packed if packed.exists() else checkout
