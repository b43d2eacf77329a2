"""The pages of backtesting.py, vectorbt and quantstats for the same bars: pages_of_rivals.py FRAME FOLDER."""

import json
import sys
import warnings
from pathlib import Path

import pandas as pd
import quantstats
import vectorbt as vbt
from backtesting import Backtest, Strategy
from backtesting.lib import plot_heatmaps

FAST, SLOW, CASH = 10, 40, 100_000
GRID = {"fast": [5, 10, 15], "slow": [20, 40]}


def sma(values, period):
    return pd.Series(values).rolling(period).mean()


class LongAndShort(Strategy):
    fast, slow = FAST, SLOW

    def init(self):
        self.fast_average = self.I(sma, self.data.Close, self.fast)
        self.slow_average = self.I(sma, self.data.Close, self.slow)

    def next(self):
        above = self.fast_average[-1] > self.slow_average[-1]
        if above and not self.position.is_long:
            self.position.close()
            self.buy(size=0.5)
        elif not above and not self.position.is_short:
            self.position.close()
            self.sell(size=0.5)


def of_backtesting(bars, folder):
    """Write the page of a run and that of a heat map; return the numbers on them."""
    test = Backtest(bars.rename(columns=str.title), LongAndShort, cash=CASH, finalize_trades=True)
    stats = test.run()
    test.plot(filename=str(folder / "backtesting.html"), open_browser=False, resample=False)
    _, found = test.optimize(**GRID, maximize="Sharpe Ratio", return_heatmap=True)
    plot_heatmaps(found, filename=str(folder / "backtesting-sweep.html"), open_browser=False)
    trades, curve = stats["_trades"], stats["_equity_curve"]
    worst = trades.loc[trades["ReturnPct"].idxmin()]  # the lowest of those that are drawn
    day = curve["DrawdownPct"].argmax()
    there = trades[(trades["EntryBar"] <= day) & (trades["ExitBar"] > day)]
    return {
        "entry": int(worst["EntryBar"]), "exit": int(worst["ExitBar"]), "profit": float(worst["ReturnPct"]),
        "trough": int(day),
        "averages": [float(sma(bars["close"], period).iloc[int(worst["EntryBar"])]) for period in (FAST, SLOW)],
        "held": [int(size) for size in there["Size"]], "held_until": [int(one) for one in there["ExitBar"]],
        "equity": float(curve["Equity"].iloc[day]), "ratios": [float(one) for one in found],
    }  # fmt: skip


def of_vectorbt(bars, folder):
    """Write the pages of a run with all of its figures, of two runs, and of a heat map; return the numbers on them."""

    def portfolio(fast, slow):
        above = sma(bars["close"], fast) > sma(bars["close"], slow)
        fresh = above.where(sma(bars["close"], slow).notna())
        went_up = (fresh.eq(True) & fresh.shift(fill_value=None).ne(True)).shift(fill_value=False)
        went_down = (fresh.eq(False) & fresh.shift(fill_value=None).ne(False)).shift(fill_value=False)
        return vbt.Portfolio.from_signals(
            bars["close"], entries=went_up, short_entries=went_down, price=bars["open"], size=100,
            init_cash=CASH, freq="1D",
        )  # fmt: skip

    one = portfolio(FAST, SLOW)
    one.plot(subplots="all").write_html(folder / "vectorbt.html", include_plotlyjs=True)
    two = pd.DataFrame({"first": one.value(), "second": portfolio(20, 100).value()})
    two.vbt.plot().write_html(folder / "vectorbt-two.html", include_plotlyjs=True)
    ratios = pd.Series({(fast, slow): portfolio(fast, slow).sharpe_ratio(year_freq="252D") for fast in GRID["fast"]
                        for slow in GRID["slow"]}).rename_axis(["fast", "slow"])  # fmt: skip
    ratios.vbt.heatmap().write_html(folder / "vectorbt-sweep.html", include_plotlyjs=True)
    trades = one.trades.records_readable
    worst = trades.loc[trades["Return"].idxmin()]
    trough = int(one.drawdown().argmin())
    where = {pd.Timestamp(time): row for row, time in enumerate(bars.index)}
    return {
        "entry": where[worst["Entry Timestamp"]], "exit": where[worst["Exit Timestamp"]], "profit": float(worst["PnL"]),
        "return": float(worst["Return"]),
        "trough": trough, "held": [float(one.assets().iloc[trough])], "ratios": [float(ratio) for ratio in ratios],
        "values": [float(two[name].iloc[len(two) // 2]) for name in two],
    }  # fmt: skip


def of_quantstats(bars, folder):
    """Write the page of returns against those of the bars; return the numbers on it."""
    above = sma(bars["close"], FAST) > sma(bars["close"], SLOW)
    held = bars["close"].pct_change().fillna(0.0)
    returns = held * above.shift(1, fill_value=False)
    quantstats.reports.html(returns, benchmark=held, output=str(folder / "quantstats.html"), title="LongAndShort")
    equity = (1 + returns).cumprod()
    return {"trough": int((equity / equity.cummax()).argmin())}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    bars, folder = pd.read_parquet(sys.argv[1]), Path(sys.argv[2])
    bars.index = pd.DatetimeIndex(bars.index).tz_localize(None)
    makers = {"backtesting.py": of_backtesting, "vectorbt": of_vectorbt, "quantstats": of_quantstats}
    told = {name: make(bars, folder) for name, make in makers.items()}
    (folder / "told.json").write_text(json.dumps(told))
