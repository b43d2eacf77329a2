"""One known path as bars of every size on markets of every kind: what is said of it is what a pencil says."""

import math
import statistics
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import groupby, pairwise
from zoneinfo import ZoneInfo

import backtrader as bt
import exchange_calendars
import numpy as np
import pandas as pd
import pytest

from backtest.api import RunResult, run
from backtest.cli.app import main
from backtest.errors import UsageError
from backtest.market.bars import table_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.metrics.measurement import measure
from backtest.research.out_of_sample.cross_validation import cross_validate
from backtest.research.out_of_sample.walk_forward import walk_forward
from backtest.research.search.job import job_of
from backtest.research.search.sweeps import sweep
from backtest.store.store import Store
from backtest.validity.comparison import compare
from backtest.validity.regimes import regimes

SINCE, UNTIL = date(2018, 1, 2), date(2020, 6, 30)  # two years and a half
NEW_YORK = ZoneInfo("America/New_York")
DAY = timedelta(days=1)
# Of one currency, so that two can be in a run without rates of exchange, and none is quoted in pence.
MARKETS = {  # series, calendar of exchange_calendars, sessions a year
    "NYSE": ("AAPL", "XNYS", 252),
    "Tokyo": ("7203-STK-TSEJ-JPY", "XTKS", 245),
    "London": ("VOD-STK-LSE-USD", "XLON", 253),
    "Frankfurt": ("SAP-STK-IBIS-USD", "XETR", 254),
    "forex": ("EUR-CASH", "", 260),
    "Globex": ("ES-FUT-CME-USD-202012+multiplier=1", "CMES", 258),
    "crypto": ("BTC-CRYPTO", "", 365),
}
SIZES = {"1min": 60, "5mins": 300, "1hour": 3600, "1day": 0, "1week": 0, "1month": 0}
CELLS = [(market, size) for market in MARKETS for size in SIZES]


class BuysOnce(bt.Strategy):
    """Half of the cash into the first bar's close, which is the next one's open."""

    def next(self):
        if len(self) == 1:
            self.buy(size=0.5 * self.broker.getcash() / self.data.close[0])


@cache
def sessions(market):
    """Return the sessions of a market: date, opening, close, in UTC."""
    name = MARKETS[market][1]
    days = [SINCE + n * DAY for n in range((UNTIL - SINCE).days + 1)]
    if market == "crypto":
        return [(day, midnight(day), midnight(day + DAY)) for day in days]
    if market == "forex":  # IB's: from 17:15 New York time on the evening before
        return [(day, new_york(day - DAY, 17, 15), new_york(day, 17, 0)) for day in days if day.weekday() < 5]
    schedule = exchange_calendars.get_calendar(name, start="2017-12-01", end="2020-12-31").schedule
    rows = schedule.loc[str(SINCE) : str(UNTIL), ["open", "close"]].itertuples()
    return [(one[0].date(), one[1].to_pydatetime(), one[2].to_pydatetime()) for one in rows]


def midnight(day):
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def new_york(day, hour, minute):
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=NEW_YORK).astimezone(UTC)


def price(n):
    """
    Return the price of the n-th session: up and down in turn on a slope.

    From the 100th to the 150th it falls by a third besides, and has it again at the 250th.
    """
    fallen = max(0.0, (n - 100) / 50 if n <= 150 else (250 - n) / 100)
    return 100 * math.exp(0.0005 * n + 0.004 * (n % 2) - min(fallen, 1.0) * math.log(1.5))


def periods(market, size):
    """Return the last session of each period, by its place, and its date."""
    dates = list(enumerate(day for day, _, _ in sessions(market)))
    key = {"1week": lambda one: one[1].isocalendar()[:2], "1month": lambda one: (one[1].year, one[1].month)}.get(size)
    return [list(group)[-1] for _, group in groupby(dates, key)]


def bars(market, size):
    """Return rows: each bar closes at the price of its session and opens at the close before."""
    before, seconds = price(0), SIZES[size]
    for n, day in periods(market, size):
        _, opens, closes = sessions(market)[n]
        moments = [midnight(day)] if not seconds else in_session(opens, closes, seconds)
        for moment in moments:
            low, high = sorted((before, price(n)))
            yield moment, before, high, low, price(n), 1e9, None, None
            before = price(n)


def in_session(opens, closes, seconds):
    """Return when some of the bars of a session begin: the first two and the last, by the clock but for the first."""
    first = int(opens.timestamp())
    second = (first // seconds + 1) * seconds
    last = (int(closes.timestamp()) - 1) // seconds * seconds
    return [datetime.fromtimestamp(one, UTC) for one in (first, second, last)]


def half_invested(prices):
    """Return what is had of 1 at each price, of which a half was bought at the first."""
    return [0.5 + 0.5 * one / prices[0] for one in prices]


@pytest.mark.slow
@pytest.mark.parametrize(("market", "size"), CELLS)
def test_a_known_path_has_its_known_numbers_at_every_bar_size_on_every_calendar(tmp_path, market, size):
    symbol, _, a_year = MARKETS[market]
    rows = list(bars(market, size))
    series, store = Series.parse(f"{symbol}/{size}"), Store(tmp_path)
    store.write(series, Span(rows[0][0], rows[-1][0] + DAY), table_of(rows))

    found = run(BuysOnce, series, store=store, costs="none", cash=1e6)

    ends = periods(market, size)
    days, worth = [day for _, day in ends], half_invested([price(n) for n, _ in ends])
    returns = [0.0, *(after / before - 1 for before, after in pairwise(worth))]
    count = {"1week": 52, "1month": 12}.get(size, a_year)
    stats = found.stats
    close = {"rel": 1e-9}  # some thousand roundings of 1e-16
    assert found.returns.index.date.tolist() == days
    assert stats["total_return"] == pytest.approx(worth[-1] - 1, **close)
    assert stats["cagr"] == pytest.approx(worth[-1] ** (count / len(worth)) - 1, **close)
    assert stats["cagr_calendar"] == pytest.approx(worth[-1] ** (365.25 / (days[-1] - days[0]).days) - 1, **close)
    assert stats["cagr"] == pytest.approx(stats["cagr_calendar"], rel=0.05)  # whatever the size, the same years
    deviation = statistics.stdev(returns)
    assert stats["volatility"] == pytest.approx(deviation * math.sqrt(count), **close)
    assert stats["sharpe"] == pytest.approx(statistics.mean(returns) / deviation * math.sqrt(count), rel=1e-7)
    falls = [one / max(worth[: n + 1]) - 1 for n, one in enumerate(worth)]
    trough = falls.index(min(falls))
    peak = worth.index(max(worth[:trough]))
    back = next(n for n in range(trough, len(worth)) if worth[n] >= worth[peak])
    if len(worth) == len(sessions(market)):  # by a pencil: the 99th is high, the 235th the first odd one to pass it
        assert (peak, trough, back) == (99, 150, 235)
    worst = found.account.worst
    assert (worst.peak, worst.trough, worst.recovery) == (days[peak], days[trough], days[back])
    assert stats["max_drawdown"] == pytest.approx(worth[trough] / worth[peak] - 1, **close)
    assert stats["max_drawdown_sessions"] == back - peak
    assert stats["max_drawdown_days"] == (days[back] - days[peak]).days
    unit = {"1week": "weeks", "1month": "months"}.get(size, "sessions")
    assert stats.basis.startswith(f"{count} {unit} per year, ")
    assert f"{len(days)} {unit} from {days[0]} to {days[-1]}, 1,000,000.00" in stats.basis


def resampled(sample, folder, rule, size):
    """Return a store with the sample's GOOG as weeks or months, each dated by its last session."""
    frame = sample.read("GOOG/1day").to_pandas()
    days = frame["time"].dt.tz_localize(None)
    groups = frame.groupby(days.dt.to_period(rule))
    rows = [
        (one["time"].iloc[-1].to_pydatetime(), one["open"].iloc[0], one["high"].max(), one["low"].min(),
         one["close"].iloc[-1], one["volume"].sum(), None, None)
        for _, one in groups
    ]  # fmt: skip
    series, store = Series.parse(f"GOOG/{size}"), Store(folder)
    store.write(series, Span(rows[0][0], rows[-1][0] + DAY), table_of(rows))
    return store


@pytest.mark.slow
def test_weeks_and_months_of_a_stock_have_the_years_of_their_dates(sample, tmp_path):
    weeks = run("buy_and_hold", "GOOG/1week", store=resampled(sample, tmp_path / "w", "W", "1week"))
    months = run("buy_and_hold", "GOOG/1month", store=resampled(sample, tmp_path / "m", "M", "1month"))

    # By 252 a year they were 202.65 %, 1.85, 3.72 and 168 %.
    assert weeks.stats["cagr"] == pytest.approx(weeks.stats["cagr_calendar"], abs=0.003)
    assert weeks.stats["cagr_calendar"] == pytest.approx(0.2584, abs=1e-4)
    assert weeks.stats["sharpe"] == pytest.approx(1.85 * math.sqrt(52 / 252), abs=0.005)
    assert months.stats["sharpe"] == pytest.approx(3.72 * math.sqrt(12 / 252), abs=0.005)
    assert months.stats["volatility"] == pytest.approx(1.68 * math.sqrt(12 / 252), abs=0.002)
    for result in (weeks, months):
        assert not [one for one in result.validity.verdict.reasons if "less than a year" in one]


def store_of(folder, **markets):
    """Return a store with the path on markets, by the size of the bars."""
    store = Store(folder)
    for market, size in markets.items():
        rows = list(bars(market, size))
        series = Series.parse(f"{MARKETS[market][0]}/{size}")
        store.write(series, Span(rows[0][0], rows[-1][0] + DAY), table_of(rows))
    return store


class Both(bt.Strategy):
    """A third of the cash into each series."""

    params = (("part", 3),)

    def next(self):
        for data in self.datas:
            if not self.getposition(data).size:
                self.buy(data, size=self.broker.getvalue() / self.p.part / data.close[0])


@pytest.mark.slow
def test_a_stock_and_a_coin_are_measured_by_the_days_of_the_coin_in_any_order(tmp_path):
    store = store_of(tmp_path, NYSE="1day", crypto="1day")

    first, second = (run(Both, names, store=store, costs="none") for names in (
        ["AAPL/1day", "BTC-CRYPTO/1day"], ["BTC-CRYPTO/1day", "AAPL/1day"],
    ))  # fmt: skip

    assert len(first.returns) == len(second.returns) == len(sessions("crypto"))
    for name in ("cagr", "volatility", "sharpe"):
        assert first.stats[name] == pytest.approx(second.stats[name], rel=1e-9)
    years = (sessions("crypto")[-1][0] - sessions("crypto")[0][0]).days / 365.25
    assert first.stats["cagr"] == pytest.approx((first.equity.iloc[-1] / 1e5) ** (1 / years) - 1, rel=0.01)
    assert first.stats.basis.startswith("365 sessions per year of BTC-CRYPTO/1day, ")


@pytest.mark.slow
def test_two_exchanges_are_measured_by_the_sessions_of_one(tmp_path):
    store = store_of(tmp_path, NYSE="1day", Frankfurt="1day")

    result = run(Both, ["AAPL/1day", "SAP-STK-IBIS-USD/1day"], store=store, costs="none")

    own = [day for day, _, _ in sessions("Frankfurt")]
    assert len(result.record) > len(own)  # some days only New York is open
    assert result.returns.index.date.tolist() == own
    growth = np.prod(1 + result.returns)
    assert growth == pytest.approx(result.equity.loc[: str(own[-1])].iloc[-1] / 1e5, rel=1e-12)
    assert result.stats["volatility"] == pytest.approx(result.returns.std() * math.sqrt(254), rel=1e-12)


def test_who_asks_for_other_periods_gets_them_and_another_name(tmp_path):
    store = store_of(tmp_path, NYSE="1week")
    plain, asked = (run(BuysOnce, "AAPL/1week", store=store, costs="none", periods=one) for one in (0, "50"))

    assert asked.stats["volatility"] == pytest.approx(plain.stats["volatility"] * math.sqrt(50 / 52))
    assert asked.stats.basis.startswith("50 weeks per year, ")
    assert asked.name != plain.name
    assert measure(plain, periods=50)["sharpe"] == asked.stats["sharpe"]
    assert RunResult.load(asked.save(tmp_path / "kept")).stats["sharpe"] == asked.stats["sharpe"]
    with pytest.raises(UsageError, match="periods is -1"):
        run(BuysOnce, "AAPL/1week", store=store, periods=-1)
    with pytest.raises(UsageError, match="periods is 'weekly'"):
        measure(plain, periods="weekly")


def test_the_command_line_takes_periods_too(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store_of(tmp_path / "bars", NYSE="1month")

    with pytest.raises(SystemExit):
        main(["run", "buy_and_hold", "AAPL/1month", "--store", "bars", "--out", "kept", "--periods", "4"])

    assert "4 months per year, " in capsys.readouterr().out


def test_the_key_of_a_run_is_what_it_was_in_0_1_0(tmp_path):
    result = run(BuysOnce, "BTC-CRYPTO/1month", store=store_of(tmp_path, crypto="1month"), costs="none")

    assert result.spec.measured_by == "12 months"
    assert result.spec.sessions_a_year == 365  # which 0.1.0 wrote, and hashed
    flat = result.spec.flat
    del flat["measured_by"]
    assert type(result.spec)(**{**vars_of(result.spec), "measured_by": ""}).key == result.spec.key
    assert type(result.spec)(**{**vars_of(result.spec), "sessions_a_year": 12.0}).key != result.spec.key


def vars_of(spec):
    return {name: getattr(spec, name) for name in type(spec).__slots__}


def test_a_run_of_days_in_new_york_is_kept_as_0_1_0_kept_it(tmp_path):
    result = run(BuysOnce, "AAPL/1day", store=store_of(tmp_path, NYSE="1day"), costs="none")

    assert not {"measured_by", "periods", "rates"} & result.spec.flat.keys()


class Parts(BuysOnce):
    """A part of the cash into the first bar that is decided at."""

    params = (("part", 0.5),)

    def next(self):
        if not self.position:
            self.buy(size=self.p.part * self.broker.getcash() / self.data.close[0])


@pytest.mark.slow
def test_windows_folds_and_sweeps_have_the_periods_of_the_run(tmp_path):
    store = store_of(tmp_path / "bars", NYSE="1week", crypto="1day")
    asked = {"store": store, "costs": "none", "folder": tmp_path / "trials"}

    walked = walk_forward(Parts, "AAPL/1week", {"part": [0.4, 0.5]}, train="1y", test="6m", **asked)
    assert len(walked.steps[0].inside.returns) == 52
    assert len(walked.steps[0].outside.returns) == 6 * 4
    assert walked.stats["volatility"] == pytest.approx(np.std(walked.returns, ddof=1) * math.sqrt(52))
    assert walked.stats.basis.startswith("52 weeks per year, ")
    tested = cross_validate(Parts, "AAPL/1week", {"part": [0.4, 0.5]}, purge="2w", **asked)
    assert (tested.periods, tested.purge) == (52, 2)
    swept = sweep(Parts, "AAPL/1week", {"part": [0.4, 0.5]}, **asked)
    assert swept.best.metrics["volatility"] == swept.best_run.stats["volatility"]
    assert swept.best_run.stats.basis.startswith("52 weeks per year, ")
    other = sweep(Parts, "AAPL/1week", {"part": [0.4, 0.5]}, periods=50, **asked)
    assert other.best.metrics["volatility"] == pytest.approx(swept.best.metrics["volatility"] * math.sqrt(50 / 52))
    days = walk_forward(Parts, "BTC-CRYPTO/1day", {"part": [0.4, 0.5]}, train="1y", test="1y", **asked)
    assert len(days.steps[0].inside.returns) == 365
    months = store_of(tmp_path / "months", NYSE="1month")
    with pytest.raises(UsageError, match="train is '3w', and a year has 12 bars"):
        walk_forward(Parts, "AAPL/1month", {"part": [0.4]}, train="3w", test=1, **{**asked, "store": months})


def test_trials_of_0_1_0_that_were_annualised_otherwise_do_not_count(tmp_path, monkeypatch):
    store = store_of(tmp_path, NYSE="1week", crypto="1day")
    weeks, days = (job_of(Parts, one, store=store) for one in ("AAPL/1week", "BTC-CRYPTO/1day"))

    monkeypatch.setattr("backtest.research.search.job.measured_by", lambda *_: "")
    assert job_of(Parts, "AAPL/1week", store=store).case != weeks.case
    assert job_of(Parts, "BTC-CRYPTO/1day", store=store).case == days.case


def test_runs_of_weeks_and_of_days_are_compared_by_weeks(tmp_path):
    store = store_of(tmp_path, NYSE="1week", Frankfurt="1day")
    first, second = (run(BuysOnce, one, store=store, costs="none") for one in ("AAPL/1week", "SAP-STK-IBIS-USD/1day"))

    assert compare([first, first], samples=10).stats[0].basis.startswith("52 weeks per year, ")
    with pytest.raises(UsageError, match=r"different periods per year \(254 sessions, 52 weeks\)"):  # of the same weeks
        compare([first, replace(first, spec=second.spec)], samples=10)
    found = compare([first, second], samples=10)
    assert found.stats[0]["total_return"] == pytest.approx(first.stats["total_return"])
    assert found.stats[1].basis.startswith("52 weeks per year, ")


def rates_of(result, rate=0.0001):
    index = pd.DatetimeIndex(result.returns.index.date)
    return pd.Series(rate * (1 + np.arange(len(index)) % 3), index=index)


@pytest.mark.slow
@pytest.mark.usefixtures("few_figures")
def test_a_risk_free_return_of_each_session_is_kept_with_the_run(tmp_path):
    store = store_of(tmp_path / "bars", NYSE="1day")
    plain = run(BuysOnce, "AAPL/1day", store=store, costs="none")
    rates = rates_of(plain)

    result = run(BuysOnce, "AAPL/1day", store=store, costs="none", risk_free=rates)

    excess = plain.returns.to_numpy() - rates.to_numpy()
    by_hand = excess.mean() / excess.std(ddof=1) * math.sqrt(252)
    assert result.stats["sharpe"] == pytest.approx(by_hand, rel=1e-12)
    assert result.stats["sharpe"] == measure(plain, rates)["sharpe"]
    again = RunResult.load(result.save(tmp_path / "kept"))
    assert again.stats["sharpe"] == result.stats["sharpe"]
    assert "risk-free rate by date, " in again.stats.basis
    assert result.name != plain.name
    assert result.name != run(BuysOnce, "AAPL/1day", store=store, costs="none", risk_free=2 * rates).name
    assert compare([again, result], samples=10).stats[0]["sharpe"] == pytest.approx(by_hand, rel=1e-12)
    assert regimes(again)["all"].sharpe == pytest.approx(by_hand, rel=1e-12)
    assert again.report(tmp_path / "page").stat().st_size > 50_000


def test_a_session_without_a_risk_free_return_is_refused(tmp_path):
    store = store_of(tmp_path, NYSE="1day")
    rates = rates_of(run(BuysOnce, "AAPL/1day", store=store, costs="none"))

    with pytest.raises(UsageError, match="no risk-free return for 2018-01-04; give one for every session"):
        run(BuysOnce, "AAPL/1day", store=store, risk_free=rates.drop(pd.Timestamp("2018-01-04")))
    with pytest.raises(UsageError, match="risk-free"):
        compare([run(BuysOnce, "AAPL/1day", store=store, risk_free=one) for one in (rates, 2 * rates)])


@pytest.mark.slow
def test_a_page_of_weeks_speaks_of_weeks(tmp_path):
    result = run(BuysOnce, "AAPL/1week", store=store_of(tmp_path, NYSE="1week"), costs="none")
    result.report(tmp_path / "page")
    page = (tmp_path / "page" / "index.html").read_text("utf-8")

    assert "52 weeks per year" in page
    assert f"in {len(result.returns)} weeks from" in page
    assert "Over 26 weeks, from" in page
    assert result.stats.text("max_drawdown_sessions").endswith(" weeks")
    assert " sessions per year" not in page
