"""What was probably meant by a word that nothing is called: the nearest of those that exist, to end a sentence with."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from backtest.errors import BacktestError

if TYPE_CHECKING:
    from backtest.market.bars import Series
    from backtest.store.store import Store


def did_you_mean(word: str, known: Iterable[str], most: int = 1) -> str:
    """Return "; did you mean sma_cross?", or nothing where no word is near; capital letters count as small ones."""
    near = nearest(word, known, most)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def there_are(word: str, known: Iterable[str]) -> str:
    """Return all words that exist, and the one that was probably meant: "there are a, bc; did you mean a?"."""
    known = list(known)
    return f"there are {', '.join(known)}{did_you_mean(word, known)}"


def did_you_mean_series(wanted: Series, known: Iterable[Series]) -> str:
    """Return the like of those of the same symbol, or else of the nearest one: a bar size alone makes none alike."""
    others = [one for one in known if one != wanted]
    symbols = nearest(wanted.instrument.symbol, [one.instrument.symbol for one in others], 1)
    alike = [one for one in others if one.instrument.symbol in symbols]
    of_its_size = [one for one in alike if (one.size, one.prices) == (wanted.size, wanted.prices)]
    near = [one.short for one in of_its_size or alike][:3]
    return f"; did you mean {' or '.join(near)}?" if near else ""


def did_you_mean_stored(wanted: Series, store: Store) -> str:
    """Return the like of the series of a store that lacks one; what else may be wrong with it is not what is told."""
    with suppress(BacktestError):
        return did_you_mean_series(wanted, store.series())
    return ""


def nearest(word: str, known: Iterable[str], most: int) -> list[str]:
    """Return the words that are most like a word, the nearest first."""
    import difflib

    by_small = {one.lower(): one for one in known}
    return [by_small[one] for one in difflib.get_close_matches(word.lower(), by_small, most)]
