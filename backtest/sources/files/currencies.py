"""`check_currency`: refuse a file whose prices are in a currency or unit other than the series'."""

from __future__ import annotations

import re
from collections.abc import Iterator

from backtest.errors import UsageError
from backtest.market.bars import PRICES
from backtest.market.series import NO_CURRENCY, Series
from backtest.runs.currencies import MINOR_UNITS, price_unit
from backtest.sources.files.columns import Roles
from backtest.sources.files.headings import bare_name
from backtest.sources.files.table import Table
from backtest.sources.files.times import is_text
from backtest.sources.files.vocabulary import CURRENCY_NAMES, CURRENCY_WORDS

_COLUMNS = frozenset(map(bare_name, CURRENCY_WORDS.split()))
_MINOR = {"GBp": "GBX", "GBPX": "GBX", "GBPENCE": "GBX", "ZAc": "ZAC", "ILa": "ILA"}
_NEAR = {"USDT": "USD", "USDC": "USD", "CNH": "CNY", "RMB": "CNY"}  # vendors of coins write the first for the second
_SIGNS = {  # and whose they are
    "€": "EUR", "£": "GBP", "₹": "INR", "₩": "KRW", "₽": "RUB", "₺": "TRY", "₪": "ILS", "฿": "THB", "zł": "PLN",
    "¥": "JPY CNY", "$": "USD CAD AUD NZD HKD SGD TWD MXN",
}  # fmt: skip
_KNOWN = {*CURRENCY_NAMES.values(), *_MINOR}
_CELLS = "the prices themselves"
_FIRST = 200  # cells that are looked at for a sign


def check_currency(table: Table, roles: Roles, series: Series) -> None:
    """
    Check that no column, line, name or sign in a file gives a currency other than the series'.

    Raises:
        UsageError: one does, such as "Currency" with EUR, "Close (EUR)" or €12.50 for a series in dollars; or the file
            is in pounds, and the stock is quoted in pence.
    """
    if series.instrument.currency == NO_CURRENCY:  # of a frame without a name
        return
    try:
        quoted = price_unit(series.instrument).name
    except UsageError:  # pence or pounds: the file may say it
        quoted = series.instrument.currency
    for stated, where in _stated(table, roles, series):
        told = [_MINOR.get(one) or _NEAR.get(one.upper(), one.upper()) for one in stated.split()]
        of_cells = [series.instrument.currency] if where == _CELLS else []  # £ before pence is often written
        if not {_NEAR.get(one, one) for one in (quoted, *of_cells)} & set(told):
            raise UsageError(
                f"{table.what} has prices in {' or '.join(told[:3])} (by {where}), and {series.short} is quoted in "
                f"{quoted}; {_cure(told[0], quoted, series)}; if the file is wrong, name its columns with --columns"
            )


def _cure(told: str, quoted: str, series: Series) -> str:
    """Return the advice at the end of the error."""
    major = {one: MINOR_UNITS[one].currency if one in MINOR_UNITS else one for one in (told, quoted)}
    if major[told] == major[quoted]:
        return "divide the prices by 100" if told in MINOR_UNITS else "multiply the prices by 100"
    one = series.instrument
    return f"write the series with that currency, such as {one.symbol}-{one.kind}-{one.exchange}-{major[told]}"


def _stated(table: Table, roles: Roles, series: Series) -> Iterator[tuple[str, str]]:
    """Yield each currency that a file states, and where."""
    if table.currency:
        yield table.currency, "a line above the rows"
    used = {place for places in roles.places.values() for place in places}
    for place, name in enumerate(table.names):
        column = table.columns[place]
        if place not in used and bare_name(name) in _COLUMNS and is_text(column):
            for value in column.unique().to_pylist():
                if value and re.fullmatch(r"[A-Za-z]{3,7}", str(value).strip()):
                    yield str(value).strip(), f"its column {name!r}"
    for place in {place for ours in PRICES for place in roles.places[ours]}:
        name, column = table.names[place] if table.headed else "", table.columns[place]
        words = [CURRENCY_NAMES.get(word.lower()) for word in re.findall(r"[A-Za-z]+", name)]
        if codes := [code for code in words if code and code != series.instrument.symbol]:  # EUR/USD Close is in USD
            yield codes[-1], f"its column {name!r}"
        if is_text(column):
            text = " ".join(str(one) for one in column.slice(0, _FIRST).to_pylist() if one)
            for code in sorted({*re.findall(r"[A-Z]{3,4}|GBp", text)} & _KNOWN):
                yield code, _CELLS
            for sign in (sign for sign in _SIGNS if sign in text and f"US{sign}" not in text):
                yield _SIGNS[sign], _CELLS
