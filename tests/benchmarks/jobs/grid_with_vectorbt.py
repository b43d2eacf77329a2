"""A grid of two averages with vectorbt, all in one call: grid_with_vectorbt.py BARS.parquet ENGINE FASTS SLOWS."""

import sys
import time

import numpy as np
import pandas as pd
import vectorbt as vbt

path, engine, *bounds = sys.argv[1:]
fasts, slows = (range(*map(int, words.split(":"))) for words in bounds)
pairs = [(fast, slow) for fast in fasts for slow in slows]
vbt.settings["engine"] = engine
frame = pd.read_parquet(path, columns=["open", "close"])
opens, closes = frame["open"], frame["close"]


def simulated() -> np.ndarray:
    fast, slow = (
        vbt.MA.run(closes, window=[pair[n] for pair in pairs], run_unique=True, short_name="fs"[n]) for n in (0, 1)
    )
    above = fast.ma.to_numpy() > slow.ma.to_numpy()
    before = np.vstack([np.zeros((1, len(pairs)), bool), above[:-1]])  # seen at a close, it trades at the next open
    portfolio = vbt.Portfolio.from_signals(
        closes, before, ~before, price=opens, size=10, accumulate=False, init_cash=100_000, freq="1D"
    )
    numbers = (
        portfolio.total_return(),
        portfolio.max_drawdown(),
        portfolio.sharpe_ratio(year_freq="252D"),
        portfolio.trades.closed.count(),
    )
    return np.array([np.asarray(one, dtype=float) for one in numbers])


simulated()
whole = time.process_time()
began = time.process_time()
found = simulated()
warm = time.process_time() - began
np.save(sys.stdout.buffer, np.append(found.ravel(), [warm, whole]))
