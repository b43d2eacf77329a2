"""`run` and its result, `RunResult`: a run's record with its metrics, validity, figures and page."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, Unpack, cast

from backtest import _arguments
from backtest._garbage import seldom_collected
from backtest._suggest import there_are
from backtest.errors import UsageError
from backtest.market import arrays
from backtest.market.calendars import sessions_a_year
from backtest.market.periods import Periods, periods_of
from backtest.market.series import Series, few, series_of, several_series
from backtest.market.span import Sessions, Span, asked_span
from backtest.metrics.measurement import Measured, check_periods, dated_rates, with_rates
from backtest.runs.spec import (
    BACKTRADER,
    NO_DIVIDENDS,
    Brokerage,
    BrokerageOptions,
    RunSpec,
    brokerage_of,
    takes_brokerage_options,
    warm_up_text,
)
from backtest.store.reader import HeldReader, Reader, are_of_frames, hours_in
from backtest.store.store import store_of

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas as pd
    import pyarrow as pa

    from backtest.engine.account.commissions import Costs
    from backtest.engine.account.dividends import DividendTable
    from backtest.engine.account.interest import BenchmarkRates
    from backtest.engine.account.margin.tables import MarginTable
    from backtest.engine.code.strategy import Strategy
    from backtest.market.universe import Universe
    from backtest.metrics.table import Metric
    from backtest.report.charts.chart_view import ChartView
    from backtest.report.figures import Figure
    from backtest.validity.validation import Validity

_F = TypeVar("_F", bound=Callable[..., Any])


class RunResult(Measured):
    """
    The result of a run. Tables are Arrow tables; the properties give frames with a UTC index.

    It is a `RunRecord` (spec, tables, manifest, `save` and `load`) that is `Measured` (`account`, `returns`, `stats`),
    with its validity, chart and page. A function that accepts either of these accepts a result.

    Attributes:
        record: a row per bar: time (of the bar's close, UTC), session (date), equity, cash, and for the n-th series
            position.n (shares or contracts) and close.n; benchmark, where the spec names one, NaN at bars at which it
            has no new price; flow, if the strategy added or withdrew cash: the amount with that bar, which counts from
            its end on; dividend.n and dividend.benchmark, if dividends are paid: the amount per share held after the
            previous bar; interest: the amount booked with that bar; margin, in a margin account: the maintenance margin
            of the positions. Equity is measured after the bar, net of all costs; before the first bar it is
            `spec.cash`. Prices are as quoted, and money is in the currency of the account; if these differ, rate.n is
            money per unit of price. If cash is held by currency, cash.n is the balance in the currency of the n-th
            series.
        orders_table: a row per order: ref, series, side, kind, size, created, status, filled, price, costs, closed;
            with `account` also reason: why it was rejected, or why the account itself submitted it.
        fills_table: a row per fill: ref, time, series, size (signed), price, costs; rate, if money is converted;
            unslipped, the price without slippage, if the run has slippage; borrow, the part of the costs that is a
            borrow fee, if the run has one; small_bar, with `fill_bars`: the opening time of the smaller bar in which
            the order filled, null for a fill in the run's own bar.
        trades_table: a row per round trip, matched first in, first out: see `round_trips`; currency, that of its
            prices, if money is converted; with `account` also reason: the margin call that closed it, if one did.
        manifest: the inputs of the run: hashes of bars and strategy, versions, parameters.
        lines: what Backtrader would plot of indicators and observers; `lines.why_not` says why there are none.
        extremes_table: a row per round trip: the lowest and the highest price while it was held; None for a run that
            version 0.1.0 saved.
        bars_from: where the bars were read, for charts; None for a loaded run. It is not saved.
        cost_table: the results at other costs, if the strategy was run again at them.
    """

    def save(self, folder: str | Path, *, force: bool = False) -> Path:
        """
        Write the run into a folder, which is created if necessary, with the summary that lists of runs show.

        Args:
            force: whether another run that the folder holds is replaced; its page and its labels are deleted too.

        Returns:
            The folder.

        Raises:
            UsageError: the folder holds another run, or cannot be written, or the run has a value that JSON cannot
            hold.
        """
        from backtest.metrics.listing import keep_summary_of

        folder = super().save(folder, force=force)
        keep_summary_of(self, folder)
        return folder

    @cached_property
    def made_by(self) -> str:
        """Which engine ran the bars, in a line; "" if there was no choice, and for a saved run."""
        return ""

    @cached_property
    def validity(self) -> Validity:
        """Whether this run is skill or luck: see `validate`; computed once."""
        from backtest.validity.validation import validate

        return validate(self)

    def plot(self) -> matplotlib.figure.Figure:
        """Return the figure of equity against buy and hold with the drawdown below it."""
        from backtest.report.figures import FIGURES

        return FIGURES["equity"].draw(self)

    def chart(self, *, store: Reader | str | Path | None = None) -> ChartView:
        """
        Return the interactive chart of the run: a notebook shows it, and its `save` writes it as a page.

        Args:
            store: where the chart finds the bars of the run; by default the store that the run read, or the bundled
                sample. Without the bars it shows closes instead of candles.
        """
        from backtest.report.run_page import chart_view

        return chart_view(self, store)

    def report(
        self,
        folder: str | Path = "",
        *,
        figures: Iterable[Figure] = (),
        metrics: Iterable[Metric] = (),
        store: Reader | str | Path | None = None,
        force: bool = False,
    ) -> Path:
        """
        Write this run and its page into a folder (default: runs/NAME), and return the path of the page.

        Args:
            figures: your own rows, like those of FIGURES; they follow the built-in ones.
            metrics: your own rows, like those of METRICS; they follow the built-in ones.
            store: where the chart finds the bars of the run; by default the store that the run read, or the bundled
                sample. Without the bars it shows closes instead of candles.
            force: whether another run that the folder holds is replaced.

        Raises:
            UsageError: the folder holds another run or cannot be written, or one of your own rows fails.
        """
        from backtest.report.run_page import write_report

        place = Path("runs") / self.name if folder == "" else folder
        return write_report(self, place, self.validity, figures, metrics, store, force=force)

    def to_csv(self, folder: str | Path, *, tz: str = "UTC", overwrite: bool = True) -> list[Path]:
        """
        Write trades, orders, fills, equity, returns and metrics as CSV files into a folder; return their paths.

        Args:
            tz: the zone of the times: "UTC", "exchange" for that of the first series, or an IANA name; times of daily
                bars are dates.
            overwrite: whether files of these names are replaced.

        Raises:
            UsageError: a file cannot be written, or exists and may not be replaced, or there is no such zone.
        """
        from backtest.report.exports import write_csv

        return write_csv(self, folder, tz, overwrite)

    def to_excel(self, file: str | Path, *, tz: str = "UTC", overwrite: bool = True) -> Path:
        """
        Write the same as the sheets of an Excel workbook, a file that ends in .xlsx, and return its path.

        Args:
            tz: the zone of the times; the column headings name it, since Excel's times have none.
            overwrite: whether the file is replaced.

        Raises:
            UsageError: as `to_csv`; or a table has more rows than a sheet can hold, or openpyxl is not installed (the
                extra `excel`).
        """
        from backtest.report.exports import write_excel

        return write_excel(self, file, tz, overwrite)

    def _repr_html_(self) -> str:
        from html import escape

        from backtest._notebook import html_lines
        from backtest.runs.parameters import words_of
        from backtest.validity.verdict import verdict

        head = (
            f"<h4>{escape(self.spec.name)} on {escape(few(self.series))}</h4>{html_lines(words_of(self.spec.params))}"
        )
        return f"{head}{verdict(self)._repr_html_()}{self.stats._repr_html_()}"


def takes_frames(function: _F) -> _F:
    """
    Let a function of a strategy, series and a store accept frames instead of series and a store.

    Their bars are in a temporary store until it returns. For a frame without a name, whose market is unknown, the
    default is no costs.
    """

    @wraps(function)
    def over(strategy: Any, series: Any, *more: Any, store: Any = None, tz: str = "", **asked: Any) -> Any:
        zone = _arguments.text(tz, "tz", "write an IANA zone, such as America/New_York, or leave it out")
        if not _holds_frames(series):
            if zone:
                raise UsageError(f"tz={zone!r} is the time zone of a frame, but stored bars are in UTC; leave it out")
            return function(strategy, series, *more, store=store, **asked)
        from backtest.downloads.ingestion import stored_frames
        from backtest.sources.files.frames import is_frame

        if store is not None:
            raise UsageError(
                "give either a frame or a store; leave store out, or import the frame into the store: "
                'backtest.ingest(frame, "AAPL/1day", store)'
            )
        if is_frame(series) and asked.get("brokerage") is None:
            asked.setdefault("costs", "none")
        with stored_frames(series, zone) as (kept, names):
            return function(strategy, _without_benchmark(names, asked.get("benchmark", "")), *more, store=kept, **asked)

    return cast("_F", over)


def _without_benchmark(names: list[Series], benchmark: Any) -> list[Series]:
    """Return the series of the frames to run on; raise UsageError if the benchmark is not among the frames."""
    if not benchmark:
        return names
    beside = series_of(benchmark)
    if beside not in names:
        raise UsageError(
            f"the benchmark {beside.short} is not among the frames; give its bars too, in a dict of frames by their "
            "series"
        )
    return [one for one in names if one != beside]


@takes_frames
@takes_brokerage_options
@seldom_collected()  # includes the imports, which create many objects that stay
def run(
    strategy: str | Path | type[Any] | Strategy,
    series: Series | str | Iterable[Series | str] | Mapping[str, Any] | pd.DataFrame | pa.Table,
    *,
    store: Reader | str | Path | None = None,
    span: Span | Sequence[date | str | None] | None = None,
    start: date | str | None = None,
    end: date | str | None = None,
    params: Mapping[str, Any] | None = None,
    cash: float | str = 100_000.0,
    benchmark: Series | str = "",
    risk_free: float | str | pd.Series = 0.0,
    periods: float | str = 0.0,
    pins: str | Path = "",
    lines: bool = True,
    warm_up: int | str = "",
    engine: str = "",
    tz: str = "",
    brokerage: Brokerage | None = None,
    **options: Unpack[BrokerageOptions],
) -> RunResult:
    """
    Run a strategy on stored bars and return its result.

    By default an order submitted at the close of a bar fills in the next one at the earliest. Backtrader refuses an
    order (status Margin) if cash does not cover it at the close at which it was submitted, or at its fill price.

    Args:
        strategy: a `bt.Strategy` class, or "file.py:Name".
        series: one series or several, or their spellings; the first one is the strategy's `data`. Or bars: a pandas or
            polars frame, an Arrow table, or a dict of these by series; for a frame without a name, the times give the
            bar size, amounts have no currency and, if `costs` are not given, there are none.
        store: a store, or its folder or URL; or any other `Reader` of bars. Omit it if you pass frames.
        span: a `Span` of timestamps, or a pair of sessions, both included, each a date or "2020-01-02"; all bars if not
            given.
        start: the first session, instead of a span.
        end: the last session, included.
        params: the strategy's parameters; the others keep their defaults.
        cash: initial cash, in the account's currency.
        benchmark: a benchmark series. Default: buy and hold of the run's own series.
        risk_free: annual risk-free rate, for the ratios; 0.02 is 2 %. Or a pandas Series of the return of each session,
            indexed by date.
        periods: periods per year for annualising. Default: 52 for weekly bars, 12 for monthly ones, otherwise the
            sessions per year of the exchange's calendar: see `SESSIONS_A_YEAR`. For series with several calendars, the
            one with the most sessions counts.
        pins: a file that `backtest pin` made: the run refuses other bars; without a span it uses all pinned ones.
        lines: whether to save what Backtrader would plot of indicators and observers; metrics do not depend on it.
        warm_up: bars before the first session that only warm up indicators: "auto" for all stored ones, or a number of
            bars of the first series. Trading, the record and all metrics still begin with the first session.
        engine: "event" runs the strategy bar by bar, "compiled" as machine code, if it can be compiled and numba is
            installed (the extra `fast`); the results are the same to the last bit. Default: compiled if numba is
            installed and there are many bars; `made_by` of the result says which it was.
        tz: for frames, the zone of times that have none, such as "America/New_York"; "exchange" for the instrument's.
        brokerage: costs, slippage and all following options in one reusable object; or pass each by its own name. An
            option that is set in both ways is refused.

    If a strategy sets a JSON-like dict named `notes`, for example with hashes of its models, the manifest includes it.

    Raises:
        UsageError: an argument is invalid.
        NoBars: the store lacks the bars.
        StrategyError: the strategy raised; the text says where, the cause is chained.
    """
    from backtest.engine.compiled.loop import Loop
    from backtest.engine.simulation import simulate

    loop = Loop.of(engine)
    rates = dated_rates(risk_free)
    a_year: Any = risk_free if rates is None else 0.0
    request = prepared(
        strategy, cast("Any", series), store=store, span=span, start=start, end=end, params=params, cash=cash,
        benchmark=benchmark, risk_free=a_year, rates=rates.digest if rates is not None else "", periods=periods,
        pins=pins, warm_up=warm_up, brokerage=brokerage, **options,
    )  # fmt: skip
    record = simulate(*request, lines=_arguments.truth(lines, "lines"), loop=loop)
    if len(record.record) >= arrays.MANY:  # Backtrader's objects refer to each other, and hold the lines of all bars
        gc.collect()
        arrays.release_memory()
    bars_from = request.store
    if are_of_frames(bars_from):  # which are deleted when the call ends
        every = map(Series.parse, record.manifest["series"])
        bars_from = HeldReader("the frame", {one: bars_from.read(one) for one in every})
    result = RunResult.of(replace(record, bars_from=bars_from))
    if pins:
        _check_rates_pinned(result, request.store, pins)
    result = result if rates is None else with_rates(result, rates)
    vars(result)["made_by"] = loop.words
    return result


class PreparedRun(NamedTuple):
    """The checked settings of a run, in the form that `simulate` accepts."""

    strategy: Strategy
    spec: RunSpec
    store: Reader
    span: Span | Sessions | None
    costs: Costs
    dividends: DividendTable | None
    interest: BenchmarkRates | None
    account: MarginTable | None
    universe: Universe | None


def prepared(
    strategy: str | Path | type[Any] | Strategy,
    series: Series | str | Iterable[Series | str],
    *,
    store: Reader | str | Path | None,
    span: Span | Sequence[date | str | None] | None = None,
    start: date | str | None = None,
    end: date | str | None = None,
    params: Mapping[str, Any] | None = None,
    cash: float | str = 100_000.0,
    benchmark: Series | str = "",
    risk_free: float | str = 0.0,
    rates: str = "",
    periods: float | str = 0.0,
    pins: str | Path = "",
    warm_up: int | str = "",
    brokerage: Brokerage | None = None,
    **options: Unpack[BrokerageOptions],
) -> PreparedRun:
    """
    Return the checked settings of a run; the arguments are those of `run`.

    Args:
        rates: the text that identifies a risk-free return for each session, "" if `risk_free` is one annual rate.

    Raises:
        UsageError, NoBars: as `run` does.
    """
    from backtest.engine.code.strategy import load_strategy, parameters
    from backtest.engine.warm_up import warm_up_of

    found, given = load_strategy(strategy), _arguments.mapping(params, "params", 'write a dict, such as {"fast": 10}')
    wanted, asked = several_series(series), asked_span(span, start, end)
    _check_distinct(wanted)
    brokerage = brokerage_of(brokerage, options)
    charged = check_asked(cash, risk_free, brokerage, periods)
    opened, beside = store_of(store), series_of(benchmark) if benchmark else None
    wanted = [opened.named(one) for one in wanted]
    _check_distinct(wanted)
    beside = opened.named(beside) if beside else None
    warm, universe = warm_up_text(warm_up), known_universe(brokerage)
    before = warm_up_of(warm, opened, wanted, asked)
    if universe is not None:
        from backtest.engine.markets.membership import with_bars

        wanted = with_bars(universe, opened, wanted, before.read if before else asked, before)
    read = [*wanted, *([beside] if beside else [])]
    _check_fill_bars(brokerage, wanted)
    if pins:
        from backtest.store.pins import pinned_span as check_pins

        span_of_all = before.read if before else asked
        further = _read_beside(brokerage, read, wanted, opened, span_of_all)
        path = _arguments.path(pins, "pins", "write the file of the pins")
        pinned = check_pins(opened, path, [*read, *map(opened.named, further)], span_of_all)
        asked = asked if before else pinned
    legacy = sessions_a_year(hours_in(opened, wanted[0]))
    paid = _dividends(brokerage, opened, read)
    earned = _benchmark_rates(brokerage, wanted)
    ruled, brokerage = _account(brokerage, wanted, charged)
    spec = RunSpec(
        found.name,
        tuple(one.key for one in wanted),
        *_dates(asked),
        parameters(found, given),
        float(cash),
        beside.key if beside else "",
        float(risk_free),
        legacy,
        replace(
            brokerage,
            costs=charged.name,
            dividends=paid.name if paid else NO_DIVIDENDS,
            interest=earned.name if earned else "",
            account=ruled.name if ruled else BACKTRADER,
            universe=universe.text if universe else "",
        ),
        check_periods(periods),
        measured_by(opened, wanted, legacy),
        rates,
        warm,
    )
    return PreparedRun(found, spec, opened, asked, charged, paid, earned, ruled, universe)


# --- the options of market and account; an option that is not set imports nothing


def _check_fill_bars(brokerage: Brokerage, wanted: list[Series]) -> None:
    if brokerage.fill_bars:
        from backtest.engine.markets.small_bars import check_fill_bars

        check_fill_bars(brokerage, wanted)


def _read_beside(
    brokerage: Brokerage, read: list[Series], wanted: list[Series], store: Reader, span: Span | Sessions | None
) -> list[Series]:
    """Return the further series that a run reads: for dividends, borrow fees and fills."""
    from backtest.engine.account.borrowing import fee_series
    from backtest.engine.account.dividends import series_read
    from backtest.engine.markets.small_bars import small_series

    further = [*series_read(brokerage.dividends, read), *fee_series(brokerage.borrow, wanted).values()]
    return [*further, *small_series(brokerage, wanted, store, span).values()]


def _dividends(brokerage: Brokerage, store: Reader, read: list[Series]) -> DividendTable | None:
    if brokerage.dividends == NO_DIVIDENDS:
        return None
    from backtest.engine.account.dividends import dividends_of

    return dividends_of(brokerage.dividends, store, read)


def _benchmark_rates(brokerage: Brokerage, wanted: list[Series]) -> BenchmarkRates | None:
    if not brokerage.interest:
        return None
    from backtest.engine.account.interest import benchmark_rates, check_interest

    check_interest(brokerage.interest, brokerage.cash_rate, wanted, brokerage.currency)
    return benchmark_rates(brokerage.interest)


def _account(brokerage: Brokerage, wanted: list[Series], charged: Costs) -> tuple[MarginTable | None, Brokerage]:
    """Return the rules of the account, and the brokerage with its margins."""
    if brokerage.account == BACKTRADER:
        return None, brokerage
    from backtest.engine.account.margin.tables import check_account, margin_table, with_margins

    ruled = margin_table(brokerage.account)
    check_account(ruled, brokerage, wanted, charged)
    return ruled, with_margins(brokerage, ruled, wanted)


def known_universe(brokerage: Brokerage) -> Universe | None:
    """
    Return the universe of a run, None if it has none.

    Raises:
        UsageError: only the text that identifies it is known.
    """
    if isinstance(brokerage.universe, str) and brokerage.universe:
        raise UsageError(
            f"the universe {brokerage.universe} of the run is in a file, which is not given; name it: universe=, "
            "--universe"
        )
    return brokerage.universe or None


def _check_rates_pinned(result: RunResult, store: Reader, pins: str | Path) -> None:
    """Raise BrokenPin if the bars of currency pairs that a run used for conversion are not pinned, or not as pinned."""
    from backtest.store.pins import pinned_span

    for legs in result.manifest.get("currencies", {}).get("rates", {}).values():
        for key in (leg["series"] for leg in legs):
            known = result.manifest["series"][key]
            first, last = (datetime.fromisoformat(known[end]) for end in ("from", "to"))
            pinned_span(store, pins, [Series.parse(key)], Span(first, last + timedelta(microseconds=1)))


def measured_by(store: Reader, series: Sequence[Series], legacy: float) -> str:
    """Return the periods that annualise a run on some series, as a spec stores them: "" for sessions, as in 0.1.0."""
    found = periods_of(series, [hours_in(store, one) for one in series])
    return "" if found == Periods(legacy) else str(found)


def _holds_frames(given: Any) -> bool:
    """Return whether bars were passed instead of names; for names, the code that reads frames is not even imported."""
    if isinstance(given, str | Series) or (
        isinstance(given, list | tuple) and all(isinstance(one, str | Series) for one in given)
    ):
        return False
    from backtest.downloads.ingestion import are_frames
    from backtest.sources.files.frames import is_frame

    return is_frame(given) or are_frames(given)


def _check_distinct(wanted: list[Series]) -> None:
    if not wanted:
        raise UsageError("no series to run on; name at least one, such as AAPL/1day")
    if len(set(wanted)) < len(wanted):
        raise UsageError(f"a series is named twice in {', '.join(one.short for one in wanted)}; name each once")


def check_asked(cash: Any, risk_free: Any, brokerage: Brokerage, periods: Any = 0.0) -> Costs:
    """
    Check the settings of a run's account, broker and market, as far as that needs no bars, and return the costs.

    Raises:
        UsageError: an argument is invalid.
    """
    from backtest.engine.account.commissions import costs_of
    from backtest.engine.alignment import ALIGNMENTS
    from backtest.engine.execution import check_market
    from backtest.engine.sizing import Sizing

    align = brokerage.align
    if not _arguments.number(cash, "cash") > 0:
        raise UsageError(f"cash is {cash}; it must be more than 0")
    if not -1 < _arguments.number(risk_free, "risk_free", "write 0.02 for 2 % per year") < 1:
        raise UsageError(f"the risk-free rate is {risk_free} per year; write 0.02 for 2 %")
    check_periods(periods)
    if _arguments.text(align, "align", f"write one of {', '.join(ALIGNMENTS)}") not in ALIGNMENTS:
        raise UsageError(f"unknown alignment {align!r}; {there_are(align, ALIGNMENTS)}")
    check_market(brokerage)
    if not (brokerage.dividends == NO_DIVIDENDS and brokerage.withholding == 0):
        from backtest.engine.account.dividends import check_dividends

        check_dividends(brokerage.dividends, brokerage.withholding)
    if brokerage.interest:
        from backtest.engine.account.interest import check_interest

        check_interest(brokerage.interest, brokerage.cash_rate)
    if brokerage.account != BACKTRADER:
        from backtest.engine.account.margin.tables import check_account, margin_table

        check_account(margin_table(brokerage.account), brokerage)
    Sizing.parse(brokerage.size)
    return costs_of(brokerage.costs)


def _dates(span: Any) -> tuple[str, str]:
    if span is None:
        return "", ""
    since, until = (span.start, span.end) if isinstance(span, Span) else span
    return since.isoformat() if since else "", until.isoformat() if until else ""
