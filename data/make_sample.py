"""
Make data/sample: real daily bars of four US stocks, as IB would have served them on 2013-03-02.

The raw closes carry splits. A split's day is one on which the source's adjustment factor (adj_close / close)
jumps by a whole ratio; prices before it are divided by the ratio and volumes multiplied, as IB rescales TRADES.
ADJUSTED_LAST is also scaled for dividends: by the factor relative to its value on the last day.

Run:  python data/make_sample.py        (needs the extra "test"; writes data/sample and the hashes in data/README.md)
"""

from __future__ import annotations

import hashlib
import re
import shutil
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from bokeh_sampledata import stocks

from backtest.market.bars import table_of
from backtest.market.series import ContractDetails, Series
from backtest.market.span import Span
from backtest.store.store import Store

HERE = Path(__file__).resolve().parent
SERVED_ON = datetime(2013, 3, 2, tzinfo=UTC)
SOURCE = "bokeh_sampledata 2026.1, from Quandl WIKI Prices"
CONTRACTS = {
    "AAPL": (265598, "APPLE INC", "NASDAQ"),
    "GOOG": (30351181, "GOOGLE INC-CL A", "NASDAQ"),
    "IBM": (8314, "INTL BUSINESS MACHINES CORP", "NYSE"),
    "MSFT": (272093, "MICROSOFT CORP", "NASDAQ"),
}


def main() -> None:
    """Write the store and the table of hashes."""
    shutil.rmtree(HERE / "sample", ignore_errors=True)
    store = Store(HERE / "sample")
    for symbol in CONTRACTS:
        raw = pd.DataFrame(getattr(stocks, symbol))
        for prices in ("TRADES", "ADJUSTED_LAST"):
            write(store, symbol, prices, as_served(raw, prices))
    for lock in store.root.rglob(".lock"):
        lock.unlink()
    write_hashes(store.root, HERE / "README.md")


def as_served(raw: pd.DataFrame, prices: str) -> pd.DataFrame:
    """Return the bars as IB would serve them: prices over the ratio of all later splits, volume times it."""
    later = later_splits(raw)
    bars = raw[["open", "high", "low", "close"]].div(later, axis=0)
    if prices == "ADJUSTED_LAST":
        factor = raw["adj_close"] / bars["close"]
        bars = bars.mul(factor / factor.iloc[-1], axis=0).round(4)
    return bars.assign(date=pd.to_datetime(raw["date"]), volume=raw["volume"] * later)


def later_splits(raw: pd.DataFrame) -> pd.Series:
    """Return the product of the ratios of all splits after each day; a day's own split is over."""
    factor = raw["adj_close"] / raw["close"]
    jump = factor / factor.shift()
    ratio = jump.round().where((jump > 1.5) & (np.abs(jump - jump.round()) < 0.01), 1.0)
    return ratio[::-1].cumprod()[::-1].shift(-1, fill_value=1.0)


def write(store: Store, symbol: str, prices: str, bars: pd.DataFrame) -> None:
    """Write one series with its contract details; IB's average price and trade count are unknown, so null."""
    number, name, exchange = CONTRACTS[symbol]
    contract = ContractDetails(number, symbol, symbol, name, exchange, f"SMART,{exchange}", "America/New_York")
    rows = [
        (
            row.date.to_pydatetime().replace(tzinfo=UTC),
            row.open,
            row.high,
            row.low,
            row.close,
            float(row.volume),
        )
        for row in bars.itertuples()
    ]
    span = Span.of_dates(rows[0][0].date(), date(2013, 3, 1))
    table = table_of([(*row, None, None) for row in rows])
    store.write(Series.parse(f"{symbol}/1day/{prices}"), span, table, source=SOURCE, contract=contract, at=SERVED_ON)


def write_hashes(root: Path, readme: Path) -> None:
    """Replace the block of hashes in the README by that of the files as they are."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(HERE)}" for path in files]
    block = "\n".join(["```sha256", *lines, "```"])
    readme.write_text(re.sub(r"```sha256\n.*?```", lambda _: block, readme.read_text(), flags=re.DOTALL))


if __name__ == "__main__":
    main()
