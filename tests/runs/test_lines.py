"""What a run keeps for charts: the lines that Backtrader would plot, to the last bit, and how it would plot them."""

import json
import math
from datetime import UTC, date, datetime, timedelta

import backtrader as bt
import matplotlib as mpl
import numpy as np
import pyarrow.parquet as pq
import pytest
from backtrader.plot import Plot
from places import SUPPORT

from backtest._resources import bundled
from backtest.api import RunResult, run
from backtest.engine.feed import replay
from backtest.errors import BadStore, UsageError
from backtest.market.bars import table_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.research.out_of_sample.window import Window
from backtest.research.search.job import Point, job_of, result_of
from backtest.research.search.sweeps import Sweep, sweep
from backtest.runs.lines import FORMAT, lines_table
from backtest.store.store import Store

SAMPLE = bundled("sample")
KEPT = SUPPORT / "kept" / "0.1.0"
AS_STOCK = {"cash": 10_000.0, "costs": "none"}  # what Backtrader's broker has by default
YEARS = (date(2010, 1, 1), date(2011, 12, 31))
AAPL, MSFT = Series.parse("AAPL/1day"), Series.parse("MSFT/1day")
MINUTES, DAYS = Series.parse("ABC/1min"), Series.parse("ABC/1day")


class Band(bt.Indicator):
    """An average with two lines around it, one of which is only there to be filled up to."""

    lines = ("mid", "low", "high")
    params = (("period", 7), ("kind", bt.ind.SMA), ("odd", math.inf))
    plotinfo = (("subplot", False), ("plotname", "Band of mine"))
    plotlines = (
        ("mid", {"color": "red", "ls": "--", "_fill_gt": ("low", ("green", 0.3)), "_fill_lt": (100, "red")}),
        ("low", {"_plotskip": True}),
        ("high", {"_plotskip": True}),
    )

    def __init__(self):
        self.inner = self.p.kind(period=self.p.period)
        self.lines.mid = self.inner
        self.lines.low = self.inner - 1
        self.lines.high = self.inner + 1


class Everything(bt.Strategy):
    """One of each way in which something is plotted, or is not."""

    lines = ("own",)

    def __init__(self):
        self.average = bt.ind.SMA(period=20)
        self.macd = bt.ind.MACDHisto()
        self.bands = bt.ind.BollingerBands()
        self.strength = bt.ind.RSI(upperband=80.0)
        self.smooth = bt.ind.SMA(self.strength, period=5)
        self.cross = bt.ind.CrossOver(self.data.close, self.average)
        self.mine = Band()
        self.above = bt.ind.ATR(plotabove=True)
        self.spread = bt.ind.SMA(self.data.high - self.data.low, period=3, subplot=True)
        self.on_macd = bt.ind.SMA(self.data.close, period=50, plotmaster=self.macd)
        self.hidden = bt.ind.SMA(period=9, plot=False)
        self.on_hidden = bt.ind.SMA(self.hidden, period=4)
        self.skipped = bt.ind.EMA(period=9, plotskip=True)
        self.operation = self.data.close - self.average
        bt.ind.EMA(period=11)  # kept by nothing but Backtrader
        self.drawdown = bt.observers.DrawDown(self.data)
        self._addobserver(False, bt.observers.Value, plot=False)
        self._addobserver(True, bt.observers.BuySell, barplot=True)

    def next(self):
        self.lines.own[0] = self.data.close[0]
        if self.cross[0] > 0:
            self.buy(size=10)
        elif self.position:
            self.close()


class WithTimer(Everything):
    """The same, with a timer."""

    def __init__(self):
        super().__init__()
        self.add_timer(bt.timer.SESSION_START)


class OwnWay(Everything):
    """The same; one that hears of its orders in a way of its own takes Backtrader's loop."""

    def _notify(self, qorders=(), qtrades=()):
        super()._notify(qorders, qtrades)


class BarByBar(Everything):
    """The same; one of its indicators has values bar by bar only, which turns `runonce` off."""

    def __init__(self):
        super().__init__()
        NextOnly()


class NextOnly(bt.Indicator):
    _nextforce = True
    lines = ("twice",)
    plotinfo = (("plot", False),)

    def next(self):
        self.lines.twice[0] = 2 * self.data.close[0]


class Plotter(Plot):
    """Backtrader's own plotter, which notes what it draws."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.drawn = []

    def plotind(self, iref, ind, subinds=None, upinds=None, downinds=None, masterax=None):
        self.drawn.append(ind)
        super().plotind(iref, ind, subinds, upinds, downinds, masterax)


def stock(strategy, tables, **how):
    """Return a strategy as it ended in Backtrader's own Cerebro, and the Cerebro."""
    cerebro = bt.Cerebro(stdstats=False, **how)
    for series, bars in tables.items():
        cerebro.adddata(replay(bars, series))
    cerebro.addstrategy(strategy)
    (ran,) = cerebro.run()
    return ran, cerebro


def tables(*series, store=SAMPLE, span=None):
    return {one: Store(store).read(one, span) for one in series}


def two_years():
    return tables(AAPL, span=Span.of_dates(*YEARS))


def bits(values):
    """Return the bits of numbers, any NaN being like any other."""
    numbers = np.array(values, np.float64)
    numbers[np.isnan(numbers)] = np.nan
    return numbers.tobytes()


def drawn_of(ran):
    """Return a strategy's indicators and observers by their labels."""
    owners = [*ran.getindicators(), *ran.getobservers()]
    return {owner.plotlabel(): owner for owner in owners if hasattr(owner, "plotinfo")}


# --- which lines, and their values


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [Everything, BarByBar])
def test_what_is_kept_is_what_backtrader_draws(strategy):
    mpl.use("agg")
    _, cerebro = stock(strategy, two_years())
    plotter = Plotter(style="line")
    cerebro.plot(plotter=plotter, iplot=False)

    kept = run(strategy, AAPL, store=SAMPLE, span=YEARS).lines.plots

    assert {one.label for one in kept} == {one.plotlabel() for one in plotter.drawn}
    assert len(kept) == len(plotter.drawn) == 13
    assert "SMA (9)" not in {one.label for one in kept}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "why", "how"),
    [
        (Everything, "", {"runonce": True}),
        (Everything, "", {"runonce": False}),
        (WithTimer, "", {"runonce": True}),
        (BarByBar, "", {"runonce": False}),
        (OwnWay, "the strategy has its own _notify", {"runonce": True}),
    ],
)
def test_each_value_is_the_one_in_backtraders_line_to_the_last_bit(strategy, why, how, caplog):
    caplog.set_level("INFO", "backtest")
    result = run(strategy, AAPL, store=SAMPLE, span=YEARS, **AS_STOCK)
    ran, _ = stock(strategy, two_years(), **how)

    owners = drawn_of(ran)
    assert ("own loop" in caplog.text, why in caplog.text) == (bool(why), True)
    assert len(ran) == len(result.record) == 504
    for number, plot in enumerate(result.lines.plots):
        for row, line in enumerate(plot.lines):
            own = getattr(owners[plot.label].lines, line.alias)
            kept = result.lines.values(number, row)
            assert bits(kept) == bits(own.array[: len(ran)]), (plot.label, line.alias)
            assert np.isfinite(kept).any(), (plot.label, line.alias)
    assert result.lines.times(0).tolist() == result.record["time"].to_numpy().astype("datetime64[us]").tolist()


def test_what_a_strategy_of_backtraders_own_does_not_name_is_kept_whole():
    result = run(bt.strategies.MA_CrossOver, AAPL, store=SAMPLE, span=YEARS, **AS_STOCK)
    ran, _ = stock(bt.strategies.MA_CrossOver, two_years())

    assert [plot.label for plot in result.lines.plots] == ["SMA (10)", "SMA (30)", "CrossOver"]
    for number, owner in enumerate(ran.getindicators()):
        assert bits(result.lines.values(number)) == bits(owner.array[: len(ran)])


class Stops(bt.Strategy):
    def __init__(self):
        bt.ind.SMA(period=2)

    def next(self):
        if len(self) == 5:
            self.env.runstop()


def test_the_lines_of_a_run_that_stops_end_with_it():
    result = run(Stops, AAPL, store=SAMPLE, span=YEARS)

    assert len(result.lines.times(0)) == len(result.record) < 504
    assert len(result.lines.values(0)) == len(result.record)


# --- how they are drawn


def test_a_plot_says_where_and_how_it_is_drawn():
    result = run(Everything, AAPL, store=SAMPLE, span=YEARS)

    where = {
        plot.label: (plot.kind, plot.pane, plot.on_series, plot.on_plot and result.lines.plots[plot.on_plot].label)
        for plot in result.lines.plots
    }
    assert where == {
        "SMA (20)": ("indicator", "overlay", 0, None),
        "MACDHisto (12, 26, 9)": ("indicator", "below", 0, None),
        "BollingerBands (20, 2.0)": ("indicator", "overlay", 0, None),
        "RSI (14)": ("indicator", "below", 0, None),
        "SMA (5)": ("indicator", "overlay", None, "RSI (14)"),
        "CrossOver": ("indicator", "below", 0, None),
        "Band of mine (7, SMA, inf)": ("indicator", "overlay", 0, None),
        "ATR (14)": ("indicator", "above", 0, None),
        "SMA (3)": ("indicator", "below", 0, None),
        "SMA (50)": ("indicator", "overlay", None, "MACDHisto (12, 26, 9)"),
        "EMA (11)": ("indicator", "overlay", 0, None),
        "DrawDown (None)": ("observer", "top", None, None),
        "BuySell (True, 0.015)": ("observer", "overlay", 0, None),
    }


def test_a_plot_has_its_class_its_parameters_and_its_plotinfo():
    lines = run(Everything, AAPL, store=SAMPLE, span=YEARS).lines
    strength, band = (next(one for one in lines.plots if one.name == name) for name in ("RSI", "Band"))

    assert (strength.module, strength.params["period"], strength.params["upperband"]) == (
        "backtrader.indicators.rsi", 14, 80.0,
    )  # fmt: skip
    assert strength.plotinfo["plotyhlines"] == [80.0, 30.0]  # which it sets when it is plotted
    assert (band.module, band.params) == (__name__, {"period": 7, "kind": "SMA", "odd": "inf"})
    assert (band.plotinfo["subplot"], band.plotinfo["plotname"], band.problem) == (False, "Band of mine", "")


def test_a_line_has_its_style_and_the_line_that_it_is_filled_up_to():
    lines = run(Everything, AAPL, store=SAMPLE, span=YEARS).lines
    styles = {line.alias: line.style for plot in lines.plots if plot.name == "Band" for line in plot.lines}
    macd = {line.alias: line.style for plot in lines.plots if plot.name == "MACDHisto" for line in plot.lines}

    assert styles == {
        "mid": {"color": "red", "ls": "--", "_fill_gt": ["low", ["green", 0.3]], "_fill_lt": [100, "red"]},
        "low": {"_plotskip": True},  # nothing is filled up to `high`
    }
    assert list(macd) == ["macd", "signal", "histo"]
    assert macd["histo"]["_method"] == "bar"


class Painted(bt.Strategy):
    def __init__(self):
        average = bt.ind.SMA(period=2)
        average.plotlines.sma.color = "blue"  # which the class does not declare
        average.plotinfo.plotylimited = True
        self.data.plotinfo.plotname = "Apple"


def test_what_a_strategy_sets_on_an_indicator_and_on_its_data_is_kept():
    (plot,), (apple,) = (lambda lines: (lines.plots, lines.series))(run(Painted, AAPL, store=SAMPLE, span=YEARS).lines)

    assert (plot.lines[0].style, plot.plotinfo["plotylimited"]) == ({"color": "blue"}, True)
    assert (apple.key, apple.clock, apple.plotinfo["plotname"]) == (AAPL.key, 0, "Apple")


class SetsDicts(bt.Strategy):
    def __init__(self):
        average, hidden, bands = bt.ind.SMA(period=2), bt.ind.SMA(period=3), bt.ind.BollingerBands(period=4)
        average.plotinfo = {"plotname": "Mine", "plotskip": False}
        average.size = 10  # which hides a method of Backtrader's
        hidden.plotinfo = {"plot": False}
        bands.plotlines.mid = {"color": "blue"}
        bands.plotlines.top = None
        self.data.plotinfo = {"plotname": "Apple"}


def test_dicts_in_the_place_of_backtraders_settings_fail_no_run():
    lines = run(SetsDicts, AAPL, store=SAMPLE, span=YEARS).lines

    average, bands = lines.plots  # Backtrader's own plot fails on them
    assert (average.label, average.pane, average.plotinfo["plotlinelabels"]) == ("Mine", "overlay", False)
    assert [line.style for line in bands.lines] == [{"color": "blue"}, {}, {"_samecolor": True}]
    assert lines.series[0].plotinfo["plotname"] == "Apple"


class HidesItsData(bt.Strategy):
    def __init__(self):
        self.data1.plotinfo.plot = False
        bt.ind.SMA(self.data0, period=2)
        bt.ind.SMA(self.data1, period=3)


def test_what_is_on_a_series_that_is_not_plotted_is_not_kept():
    result = run(HidesItsData, [AAPL, MSFT], store=SAMPLE, span=YEARS)

    assert [plot.label for plot in result.lines.plots] == ["SMA (2)"]


class Broken(bt.Indicator):
    lines = ("close",)

    def __init__(self):
        self.lines.close = self.data.close + 0

    def _plotlabel(self):
        raise KeyError("no such label")


class HasBroken(bt.Strategy):
    def __init__(self):
        Broken()


def test_a_label_that_fails_fails_no_run_and_is_told(caplog):
    (plot,) = run(HasBroken, AAPL, store=SAMPLE, span=YEARS).lines.plots

    assert (plot.label, plot.problem) == ("Broken", "KeyError: 'no such label'")
    assert "Broken has no label of its own" in caplog.text


# --- several series


@pytest.fixture
def two_frames(tmp_path):
    """Return a store with three days: each as a bar of a day, and with four bars of a minute."""
    store, days = Store(tmp_path / "bars"), [datetime(2024, 1, 2 + n, tzinfo=UTC) for n in range(3)]
    store.write(
        DAYS, Span.of_dates(date(2024, 1, 2), date(2024, 1, 4)), table_of([bar(day, 10.0 + day.day) for day in days])
    )
    minutes = [day + timedelta(hours=15, minutes=n) for day in days for n in range(4)]
    rows = [bar(minute, 10.0 + n) for n, minute in enumerate(minutes)]
    store.write(MINUTES, Span.of_dates(date(2024, 1, 2), date(2024, 1, 4)), table_of(rows))
    return store


def bar(moment, price):
    return moment, price, price + 1, price - 1, price + 0.5, 1e6, None, None


class TwoFrames(bt.Strategy):
    def __init__(self):
        self.fast = bt.ind.SMA(self.data0, period=2)
        self.slow = bt.ind.SMA(self.data1.close, period=2)
        self.range = bt.ind.SMA(self.data1.high - self.data1.low, period=1)
        self.of_slow = bt.ind.SMA(self.slow, period=1)
        self._addobserver(False, bt.observers.Value)


class TwoFramesMixed(TwoFrames):
    def __init__(self):
        super().__init__()
        self.mixed = bt.ind.SMA(
            bt.If(self.data0.close > self.data1.close, self.data0.close, self.data1.close), period=1
        )


@pytest.mark.parametrize("strategy", [TwoFrames, TwoFramesMixed])
def test_lines_have_the_stamps_of_the_bars_that_they_are_on(two_frames, strategy):
    result = run(strategy, [MINUTES, DAYS], store=two_frames, cash=1000.0)

    lines = result.lines
    midnights = [f"2024-01-0{3 + n}T00:00:00.000000" for n in range(3)]  # which end the days
    fast, slow, size, of_slow, *_ = lines.plots
    assert [(plot.on_series, lines.clocks[plot.clock].rows) for plot in (fast, slow, size)] == [(0, 12), (1, 3), (1, 3)]
    assert (of_slow.on_plot, of_slow.clock) == (1, slow.clock)
    assert [str(one) for one in lines.times(slow.clock)] == midnights
    assert str(lines.times(fast.clock)[0]) == "2024-01-02T15:01:00.000000"
    assert lines.values(1).tolist()[1:] == [13.0, 14.0]  # closes 12.5, 13.5, 14.5
    assert lines.values(0).tolist()[1:] == [11.0 + n for n in range(11)]
    value = next(number for number, plot in enumerate(lines.plots) if plot.name == "Value")
    assert lines.plots[value].clock == lines.steps
    assert len(lines.values(value)) == len(result.record) == 15


@pytest.mark.parametrize("runonce", [True, False])
def test_lines_of_two_frames_are_backtraders_to_the_last_bit(two_frames, runonce):
    result = run(TwoFrames, [MINUTES, DAYS], store=two_frames, **AS_STOCK)
    ran, _ = stock(TwoFrames, tables(MINUTES, DAYS, store=two_frames.root), runonce=runonce)

    owners = [one for one in [*ran.getindicators(), *ran.getobservers()] if hasattr(one, "plotinfo")]
    assert len(owners) == len(result.lines.plots)
    for number, (owner, plot) in enumerate(zip(owners, result.lines.plots, strict=True)):
        kept = result.lines.values(number)
        assert bits(kept) == bits(owner.array[: len(owner)]), plot.label
        assert len(kept) == len(owner)


class Couples(bt.Strategy):
    def __init__(self):
        self.slow = bt.ind.SMA(self.data1, period=2)
        self.coupled = self.slow()
        self.whole = self.data1()  # a feed's own lines, which Backtrader cannot plot
        NextOnly()


def test_a_coupler_has_a_name_without_the_number_that_backtrader_counts(two_frames):
    lines = run(Couples, [MINUTES, DAYS], store=two_frames).lines

    coupler = "LinesCoupler", "LinesCoupler (30)"  # which Backtrader makes with the default parameters
    assert [(plot.name, plot.label) for plot in lines.plots] == [("SMA", "SMA (2)"), coupler]
    assert lines.clocks[lines.plots[1].clock].rows == len(lines.values(1))


def test_series_with_the_same_bars_share_a_clock():
    class Two(bt.Strategy):
        def __init__(self):
            bt.ind.SMA(self.data0, period=2)
            bt.ind.SMA(self.data1, period=2)

    lines = run(Two, [AAPL, MSFT], store=SAMPLE, span=YEARS, align="intersection").lines

    assert [one.clock for one in lines.series] == [0, 0]
    assert (len(lines.clocks), lines.steps, lines.table.column_names) == (1, 0, ["time.0", "0.sma", "1.sma"])


# --- kept, and not kept


class Average(bt.Strategy):
    def __init__(self):
        bt.ind.SMA(period=3)


@pytest.fixture
def kept():
    return run(Average, AAPL, store=SAMPLE, span=YEARS)


def test_lines_are_saved_and_read_again(kept, tmp_path):
    loaded = RunResult.load(kept.save(tmp_path))

    assert loaded == kept
    assert loaded.lines.plots == kept.lines.plots
    assert bits(loaded.lines.values(0)) == bits(kept.lines.values(0))
    described = json.loads(pq.read_schema(tmp_path / "lines.parquet").metadata[b"backtest.lines"])
    assert (described["format"], described["plots"][0]["label"]) == (FORMAT, "SMA (3)")


def test_a_line_has_null_where_it_has_no_value(kept):
    column = kept.lines.table["0.sma"]

    assert column.slice(0, 3).to_pylist()[:2] == [None, None]
    assert column.null_count == 2


def test_lines_as_a_frame(kept):
    frame = kept.lines.to_frame()

    assert list(frame.columns) == [("SMA (3)", "sma")]
    assert frame.index.equals(kept.equity.index)
    assert frame["SMA (3)"]["sma"].iloc[2] == math.fsum(kept.closes["AAPL/1day"].iloc[:3]) / 3
    assert kept.lines.to_frame("AAPL/1day").equals(frame)


def test_a_frame_of_lines_is_of_the_bars_of_one_series(two_frames):
    lines = run(TwoFrames, [MINUTES, DAYS], store=two_frames).lines

    assert list(lines.to_frame(DAYS).columns.get_level_values("plot")) == ["SMA (2)", "SMA (1)", "SMA (1)"]
    assert len(lines.to_frame("ABC/1min")) == 12
    assert list(lines.to_frame()["Value (None)"].columns) == ["value"]
    with pytest.raises(UsageError, match="no series MSFT/1day; choose from ABC/1min, ABC/1day"):
        lines.to_frame("MSFT/1day")


class Bare(bt.Strategy):
    pass


def test_a_strategy_that_plots_nothing_keeps_no_line_and_that_is_no_lack(tmp_path):
    result = run(Bare, AAPL, store=SAMPLE, span=YEARS)
    loaded = RunResult.load(result.save(tmp_path))

    assert (loaded.lines.plots, loaded.lines.why_not) == ((), "")
    assert loaded == result
    assert loaded.lines.to_frame().empty


def test_a_run_without_lines_is_the_same_run_and_says_that_none_were_kept(kept, tmp_path):
    bare = run(Average, AAPL, store=SAMPLE, span=YEARS, lines=False)

    kept.save(tmp_path)
    loaded = RunResult.load(bare.save(tmp_path))  # over the other one

    assert (bare.name, bare.spec.key) == (kept.name, kept.spec.key)
    assert bare.record == kept.record
    assert not (tmp_path / "lines.parquet").exists()
    assert loaded == bare
    assert loaded.lines.plots == ()
    assert "saved no lines" in loaded.lines.why_not
    with pytest.raises(UsageError, match=r"saved no lines.*run it again"):
        loaded.lines.to_frame()


def test_no_lines_on_the_command_line(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    asked = ("run", "sma_cross", "AAPL/1day", "--store", str(SAMPLE), "--since", "2012-01-01", "--json")

    with_lines, _, _ = call(*asked, "--out", "with")
    without, _, _ = call(*asked, "--out", "without", "--no-lines")

    assert (with_lines, without) == (0, 0)
    assert RunResult.load("with").lines.plots
    assert not (tmp_path / "without" / "lines.parquet").exists()


@pytest.mark.parametrize("name", ["many-options", "two-series"])
def test_a_run_of_version_0_1_0_is_read_and_says_that_it_kept_no_lines(name):
    result = RunResult.load(KEPT / "runs" / name)

    assert (result.lines.plots, result.lines.table) == ((), None)
    assert "version 0.1.0" in result.lines.why_not


def test_the_best_run_of_a_sweep_has_lines_and_its_trials_are_not_asked_for_any(tmp_path):
    swept = sweep("sma_cross", AAPL, {"fast": [5, 10]}, store=SAMPLE, span=YEARS, folder=tmp_path)

    assert [plot.name for plot in Sweep.load(tmp_path).best_run.lines.plots] == ["SMA", "SMA"]
    assert "lines" not in swept.asked["asked"]
    with pytest.raises(UsageError, match="has no option lines"):
        sweep("sma_cross", AAPL, {"fast": [5, 10]}, store=SAMPLE, span=YEARS, folder=tmp_path, lines=True)


def test_a_trial_and_a_window_keep_no_lines():
    job = job_of("sma_cross", AAPL, store=SAMPLE, span=YEARS, swept=["fast"])

    for window in (None, Window(date(2011, 1, 3), date(2011, 6, 30))):
        assert result_of(job, Point({"fast": 5}, window)).lines.table is None


@pytest.mark.parametrize("damage", ["a byte", "metadata", "another format"])
def test_damaged_lines_are_told(kept, tmp_path, damage):
    path = kept.save(tmp_path) / "lines.parquet"
    if damage == "a byte":
        content = bytearray(path.read_bytes())
        content[2000] ^= 1
        path.write_bytes(content)
    elif damage == "metadata":
        pq.write_table(kept.lines.table.replace_schema_metadata(None), path)
    else:
        table = lines_table({}, {"plots": [], "clocks": [], "series": [], "steps": None, "format": FORMAT + 1})
        pq.write_table(table, path)

    with pytest.raises(BadStore, match="cannot be read"):
        RunResult.load(tmp_path)
