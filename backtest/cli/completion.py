"""What a shell may complete: series, strategies, kept runs, templates, by the names of files alone."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import typer

from backtest._resources import bundled
from backtest.errors import UsageError


def stored_series(ctx: typer.Context) -> list[str]:
    """Return the series in the folder that --store names."""
    from backtest.market.bars import Series

    root, found = Path(ctx.params.get("store") or ""), []
    for bars in root.glob("[!.]*/*/*/*/bars"):
        with suppress(UsageError):  # a folder of somebody else's; `backtest verify` tells
            series = Series.parse(bars.parent.relative_to(root).as_posix())
            # bash cuts what it is offered at blanks, so a spelling that needs quotes is offered escaped.
            found.append(series.short if series.quoted == series.short else series.short_key)
    return sorted(found)


def strategies() -> list[str]:
    """Return the strategies that come along, and the Python files here and in strategies/."""
    ours = [path.stem for path in bundled("strategies").glob("*.py")]
    return sorted(ours) + sorted(
        path.as_posix() for folder in (".", "strategies") for path in Path(folder).glob("*.py")
    )


def kept_runs(root: str) -> list[str]:
    """Return the names of the runs in a folder."""
    return sorted(path.parent.relative_to(root).as_posix() for path in Path(root).rglob("spec.json"))


def templates() -> list[str]:
    """Return what `backtest new` can begin with."""
    folders = (Path(__file__).parents[1] / "onboarding" / "templates").iterdir()
    return sorted(path.name for path in folders if path.name != "every")
