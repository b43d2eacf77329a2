"""The meaning of column names: time, prices, volume, symbol, by vendors' terms and in many languages."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Set
from dataclasses import dataclass

from backtest.market.series import Series
from backtest.sources.files.vocabulary import WORDS


def bare_name(text: str) -> str:
    """Return a name as lower-case letters and digits only, without accents, in any alphabet."""
    apart = unicodedata.normalize("NFKD", text.casefold().replace("ł", "l").replace("ø", "o").replace("æ", "ae"))
    return "".join(one for one in apart if one.isalnum())


_ENDS = 2  # the line of those words for a time that are its end
_ADJUSTED = re.compile(r"adj|adjusted|adjust|adjustment|bereinigt")
_SIDES = ("bid", "ask", "mid")
_ADJUSTED_IN_ASIA = "|".join(map(bare_name, ("調整後", "调整后", "調整后", "复权", "前复权", "后复权", "수정")))
# Words that add nothing to the name of a price: PX_LAST, "Open Price", "Close (USD)"; and of a time.
_NOISE = frozenset(
    {"px", "price", "prices", "the", "of", "in", "value", "session", "trade", "kurs", "raw", "unadjusted"}
)
_CURRENCIES = frozenset({"usd", "eur", "gbp", "chf", "cad", "aud", "jpy", "hkd", "usdt", "dollar", "dollars", "euro"})
_ZONES = {
    "utc": "UTC", "gmt": "UTC", "z": "UTC", "est": "EST", "et": "America/New_York", "eastern": "America/New_York",
    "est5edt": "America/New_York", "newyork": "America/New_York", "cet": "Europe/Berlin", "eet": "Europe/Helsinki",
    "jst": "Asia/Tokyo", "hkt": "Asia/Hong_Kong", "ct": "America/Chicago", "chicago": "America/Chicago",
    "london": "Europe/London", "msk": "Europe/Moscow",
}  # fmt: skip


def _ranks() -> dict[str, list[tuple[str, int]]]:
    """Return the meaning of each word, and how certain it is."""
    found: dict[str, list[tuple[str, int]]] = {}
    for ours, lines in WORDS.items():
        for rank, line in enumerate(lines):
            for word in line.split():
                if (pair := (ours, rank)) not in found.setdefault(bare_name(word), []):
                    found[bare_name(word)].append(pair)
    return {word: sorted(pairs, key=lambda pair: pair[1]) for word, pairs in found.items()}


_RANKS = _ranks()


@dataclass(frozen=True, slots=True)
class Meaning:
    """
    The meaning of a column name: one of our columns, and how certain that is (0 is most certain).

    `adjusted`: prices adjusted for splits and dividends; `side`: "bid", "ask" or "mid" for quotes; `ends`: whether it
    is a time at which bars end.
    """

    ours: str
    rank: int = 0
    adjusted: bool = False
    side: str = ""

    @property
    def ends(self) -> bool:
        """Whether it is the time at which bars end."""
        return self.ours == "time" and self.rank == _ENDS


def meanings_of(name: str, series: Series | None = None) -> list[Meaning]:
    """Return what a column of this name may mean, most certain first; also for names such as AAPL.Open."""
    name = re.sub(r"^\s*\d+[a-z]?[.)]\s*", "", name)  # "1. open", "1a. open (USD)"
    if found := _RANKS.get(bare_name(name)):
        return [Meaning(ours, rank) for ours, rank in found]
    words = _tokens(name)
    adjusted = any(_ADJUSTED.fullmatch(word) for word in words)
    side = next((word for word in words if word in _SIDES), "")
    own = {bare_name(series.instrument.symbol)} if series else set()
    kept = [word for word in words if word not in own and word not in _SIDES and not _ADJUSTED.fullmatch(word)]
    if adjusted and not kept:  # AAPL.Adjusted, of R
        return [Meaning("close", adjusted=True)]
    money = {*_CURRENCIES, bare_name(series.instrument.currency)} if series else _CURRENCIES
    return _of_words(kept, money, adjusted, side) or _run_together(bare_name(name))


def known_words(text: str) -> int:
    """Return how many cells in the first lines of a text are known column names."""
    cells = [cell for line in text.splitlines()[:20] for cell in re.split(r"[,;\t|]", line)]
    return sum(bool(meanings_of(cell.strip(" \"'<>"))) for cell in cells if re.search(r"[^\W\d]", cell))


def zone_in(name: str) -> str:
    """Return the zone in the name of a column of times, as in "Gmt time"; "" if it names none."""
    return next((_ZONES[word] for word in _tokens(name) if word in _ZONES), "")


def names_end(name: str) -> bool:
    """Return whether a column of this name holds the times at which bars end."""
    return any(meaning.ends for meaning in meanings_of(name))


def _of_words(words: list[str], money: Set[str], adjusted: bool, side: str) -> list[Meaning]:
    without = [word for word in words if word not in _NOISE]
    for kept in (words, without, [word for word in without if word not in money]):
        found = [pair for pair in _RANKS.get("".join(kept), []) if not (pair[0] == "volume" and kept is not words)]
        zoned = [word for word in kept if word not in _ZONES]
        times = [pair for pair in _RANKS.get("".join(zoned), []) if pair[0] == "time"]
        if found or times:
            return [Meaning(ours, rank, adjusted, side) for ours, rank in found or times]
    return []


def _run_together(key: str) -> list[Meaning]:
    """Return the meaning of a name whose words are not separated: adjclose, closeadj, bidopen, openask."""
    match = re.fullmatch(rf"(adjusted|adj|bid|ask|mid|{_ADJUSTED_IN_ASIA})(\w+)", key)
    pair = (match[1], match[2]) if match else None
    if pair is None and (match := re.fullmatch(r"(\w+?)(adjusted|adj|bid|ask|mid)", key)):
        pair = (match[2], match[1])
    if pair is None:
        return []
    mark, rest = pair
    side = mark if mark in _SIDES else ""
    return [
        Meaning(ours, rank, not side, side) for ours, rank in _RANKS.get(rest, []) if ours not in ("time", "symbol")
    ]


def _tokens(name: str) -> list[str]:
    """Return the words of a name, split at marks and capital letters: adjClose is adj, close."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [key for word in re.split(r"[\W_]+", apart) if (key := bare_name(word))]
