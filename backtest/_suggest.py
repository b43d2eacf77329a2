"""Suggestions for an unknown name: the closest existing ones, to end an error with."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str], most: int = 1) -> str:
    """Return "; did you mean sma_cross?", or nothing if no name is close; capitals count as lower case."""
    near = [name for name in nearest(word, known, most) if name != word]  # what is misspelt is something else
    return f"; did you mean {' or '.join(near)}?" if near else ""


def there_are(word: str, known: Iterable[str]) -> str:
    """Return all known names, with the one that was probably meant: "there are a, bc; did you mean a?"."""
    known = list(known)
    return f"choose from {', '.join(known)}{did_you_mean(word, known)}"


def nearest(word: str, known: Iterable[str], most: int) -> list[str]:
    """Return the names most like a word, the closest first."""
    import difflib

    by_small = {one.lower(): one for one in known}
    return [by_small[one] for one in difflib.get_close_matches(word.lower(), by_small, most)]
