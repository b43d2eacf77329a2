"""The newcomer's job with vectorbt, all series in one call: with_vectorbt.py FOLDER SYMBOL ..."""

import sys

import pandas as pd
import vectorbt as vbt

folder, *symbols = sys.argv[1:]
frames = {symbol: pd.read_parquet(f"{folder}/{symbol}.parquet", columns=["open", "close"]) for symbol in symbols}
closes = pd.DataFrame({symbol: frame["close"] for symbol, frame in frames.items()})
opens = pd.DataFrame({symbol: frame["open"] for symbol, frame in frames.items()})

fast, slow = vbt.MA.run(closes, 10, short_name="fast"), vbt.MA.run(closes, 30, short_name="slow")
entries, exits = fast.ma_crossed_above(slow), fast.ma_crossed_below(slow)
entries.columns = exits.columns = closes.columns
portfolio = vbt.Portfolio.from_signals(
    closes,
    entries.vbt.signals.fshift(1),  # to the next bar, at whose open it trades
    exits.vbt.signals.fshift(1),
    price=opens,
    size=100,
    fixed_fees=1.0,
    init_cash=100_000,
    freq="1D",
)
rows = zip(portfolio.sharpe_ratio(year_freq="252D"), portfolio.max_drawdown(), portfolio.total_return(), strict=True)
for symbol, row in zip(symbols, rows, strict=True):
    print(symbol, *row)
