"""`RunSpec`: the settings of a run; `Brokerage`: those about its broker and its market."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import Field, dataclass, field, fields, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypedDict

from backtest import _arguments
from backtest._suggest import there_are
from backtest.errors import UsageError, quoted, reason
from backtest.market.periods import Periods
from backtest.market.series import CONTRACT_KINDS, FUTURE_KINDS, BarSize, Series
from backtest.market.span import Sessions, Span
from backtest.runs.currencies import base_currency, conversion_text, currency_of, currency_text, quoted_in_text
from backtest.runs.parameters import kept_params, read_params
from backtest.store.documents import ANYTHING, NUMBER, TEXT, Misfit, keyed, list_of, mapped


def slippage_of(given: Any) -> str:
    """
    Return slippage as `Slippage.parse` reads it; a bare number is money per share.

    Raises:
        UsageError: it is not valid.
    """
    if given is None or isinstance(given, str):
        return given or ""
    example = 'write "5bp" for five basis points of the price, or 0.01 for a cent per share'
    return repr(_arguments.number(given, "slippage", example))


def borrowing_of(given: Any) -> str:
    """
    Return borrow fees as `Borrowing.parse` reads their rules; a number is the annual fee of all series.

    Raises:
        UsageError: it is not valid.
    """
    if given is None or isinstance(given, str):
        return given or ""
    return repr(_arguments.number(given, "borrow", 'write 0.01 for 1 % per year, or "GME/1day=0.3"'))


def size_of(given: Any) -> str:
    """
    Return a size as `Sizing.parse` reads it; a whole number is that many shares or contracts per order.

    Raises:
        UsageError: it is not valid.
    """
    if given is None or isinstance(given, str):
        return given or ""
    example = 'write 100 for a hundred shares, or "percent:95" for a share of the account'
    return f"shares:{_arguments.whole(given, 'size', 1, example)}"


def volume_cap_of(given: Any) -> float:
    """
    Return the largest fraction of a bar's volume to trade.

    Raises:
        UsageError: it is not a number.
    """
    return _arguments.number(given, "volume_cap", "write 0.1 for a tenth of each bar's volume")


def cash_rate_of(given: Any) -> float:
    """
    Return the annual interest on idle cash.

    Raises:
        UsageError: it is not a number.
    """
    return _arguments.number(given, "cash_rate", "write 0.02 for 2 % per year")


def dividends_of_caller(given: Any) -> Any:
    """
    Return the dividends as `account.dividends` reads them: a word, the path of a file as text, or a table.
    """
    return "none" if given is None else str(given) if isinstance(given, str | Path) else given


def interest_of(given: Any) -> Any:
    """Return the interest on cash, as `account.interest` reads it: "" for none, a word, a file's path, or rates."""
    if given is None or (isinstance(given, str) and given == "none"):
        return ""
    return str(given) if isinstance(given, str | Path) else given


def account_of(given: Any) -> Any:
    """Return the account as `account.margin.tables` reads it: a word, a file's path as text, or a table."""
    return BACKTRADER if given is None or given == "" else str(given) if isinstance(given, str | Path) else given


def withholding_of(given: Any) -> float:
    """
    Return the fraction of each dividend that is withheld.

    Raises:
        UsageError: it is not a number.
    """
    return _arguments.number(given, "withholding", "write 0.15 for 15 %")


def margin_of(given: Any) -> str:
    """
    Return the margin of contracts as `margin_rules` reads it; a number applies to all futures of the run.

    Raises:
        UsageError: it is not valid.
    """
    if given is None or isinstance(given, str):
        margin_rules(given or "")
        return given or ""
    return f"{_arguments.number(given, 'margin', _MARGIN):.15g}"


_MARGIN = "write 15000 for all futures, or ES-FUT-CME-USD-202612/1day=15000 for one; separate several by commas"


def margin_rules(text: str) -> dict[str, float]:
    """
    Return the margin per contract, by the short name of its series, "" for all.

    Raises:
        UsageError: a rule is invalid, or the money is not above 0.
    """
    rules = {}
    for rule in filter(None, text.split(",")):
        name, _, money = rule.rpartition("=")
        try:
            amount = float(money)
        except ValueError as error:
            raise UsageError(f"{_arguments.not_a_number(money, f'the margin {rule!r}')}; {_MARGIN}") from error
        if not 0 < amount < float("inf"):
            raise UsageError(f"the margin {rule!r} must be above 0; {_MARGIN}")
        rules[Series.parse(name).short if name else ""] = amount
    return rules


def splits_text(given: Any) -> str:
    """
    Return splits as `split_rules` reads them.

    Args:
        given: the path of a file with one split per line: its date, the number of shares that one became and, if a run
            has several, the series: 2000-06-21,2,AAPL/1day. Or such rows; or a text that this function returned.

    Raises:
        UsageError: it cannot be read.
    """
    if given is None or given == "":
        return ""
    if isinstance(given, str) and re.fullmatch(_SPLIT_RULES, given):
        split_rules(given)
        return given
    if not isinstance(given, str | Path):
        return _text_of_splits(_arguments.several(given, "splits", _SPLITS))
    rows = _rows_of_file(given)
    try:
        return _text_of_splits(rows)
    except UsageError as error:
        raise UsageError(f"{quoted(given)}: {error}") from error


_FILE_OF_SPLITS = "write the path of a CSV file with the columns date,ratio (and series)"
_SPLITS = f'{_FILE_OF_SPLITS}, or rows such as ("2000-06-21", 2, "AAPL/1day")'
_SPLIT_RULES = r"[^=,\n]*[0-9]{4}-[0-9]{2}-[0-9]{2}=[^=\n]*(,[^=,\n]*[0-9]{4}-[0-9]{2}-[0-9]{2}=[^=,\n]*)*"


def _rows_of_file(path: str | Path) -> list[list[str]]:
    try:
        rows = _arguments.rows_of(Path(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"the splits {quoted(path)} cannot be read ({reason(error)}); {_FILE_OF_SPLITS}") from error
    heading = rows and rows[0][0].lower() == "date"
    if heading and [cell.lower() for cell in rows[0]] not in (["date", "ratio"], ["date", "ratio", "series"]):
        raise UsageError(f"the splits {quoted(path)} have the columns {', '.join(rows[0])}, not date,ratio or "
                         "date,ratio,series")  # fmt: skip
    return rows[1:] if heading else rows


def _text_of_splits(rows: Sequence[Any]) -> str:
    text = ",".join(sorted(map(_split_rule, rows)))
    split_rules(text)
    return text


def _split_rule(row: Any) -> str:
    cells = list(row) if isinstance(row, list | tuple) else [row]
    if len(cells) not in (2, 3):
        raise UsageError(
            f"a split is {_arguments.shown(row)}; write its date and ratio, and the series if there are several: "
            "2000-06-21,2,AAPL/1day"
        )
    day, ratio, name = (*cells, "")[:3]
    told = f"{Series.parse(str(name)).short}@" if name else ""
    return f"{told}{day.isoformat() if isinstance(day, date) else str(day)[:10]}={ratio}"


def split_rules(text: str) -> dict[str, tuple[tuple[str, float], ...]]:
    """
    Return splits by the short name of their series, "" if none is named: dates, and shares that one became.

    Written as "AAPL/1day@2000-06-21=2,2005-02-28=2". One share before the date became that many shares; trades on the
    date itself are after the split.

    Raises:
        UsageError: one is not a split, or given twice.
    """
    rules: dict[str, dict[str, float]] = {}
    for rule in filter(None, text.split(",")):
        where, _, ratio = rule.rpartition("=")
        name, _, day = where.rpartition("@")
        try:
            when = date.fromisoformat(day).isoformat()
        except ValueError as error:
            raise UsageError(
                f"{day!r} in the split {rule!r} is not a valid date ({reason(error)}); write YYYY-MM-DD, such as "
                "2000-06-21"
            ) from error
        try:
            shares = float(ratio)
        except ValueError as error:
            raise UsageError(
                f"the ratio {ratio!r} of the split {rule!r} is not a number; write 2 for a 2-for-1 split"
            ) from error
        if not 0 < shares < float("inf"):
            raise UsageError(f"the split {rule!r} must have a ratio above 0, such as 2 for a 2-for-1 split")
        own = rules.setdefault(Series.parse(name).short if name else "", {})
        if when in own:
            raise UsageError(f"two splits are given for {when}; name each once")
        own[when] = shares
    return {name: tuple(sorted(own.items())) for name, own in rules.items()}


def fill_bars_of(given: Any) -> str:
    """
    Return the size of the bars on which orders fill, as a spec stores it; "" for those of the run.

    Raises:
        UsageError: there is no such size.
    """
    if given is None or (isinstance(given, str) and not given):
        return ""
    return str(given if isinstance(given, BarSize) else BarSize.parse(given))


def _read_universe(given: Any) -> Any:
    """Return a universe as `universe_of` reads it."""
    if given is None or (isinstance(given, str) and not given):
        return ""
    from backtest.market.universe import universe_of

    return universe_of(given)


REFUSE, ALLOW = MISSING_MEMBERS = ("refuse", "allow")


def missing_members_of(given: Any) -> str:
    """
    Return how to treat names of a universe that have no bars.

    Raises:
        UsageError: it is neither "refuse" nor "allow".
    """
    return _arguments.word(given, "missing_members", MISSING_MEMBERS)


AUTO = "auto"  # a warm-up of all the bars that are stored


def warm_up_text(given: Any) -> str:
    """
    Return a warm-up as a spec stores it: "" for none, "auto", or a number of bars.

    Raises:
        UsageError: it is none of these.
    """
    if given is None or given in ("", AUTO):
        return given or ""
    bars = _arguments.whole(given, "warm_up", 0, f"write {AUTO} for all earlier stored bars, or a number of bars")
    return str(bars) if bars else ""


def span_read(span: Span | Sessions | None) -> Span | Sessions | None:
    """Return the span of a run, and with a warm-up everything before it."""
    if isinstance(span, Span):
        return Span(min(_EARLIEST, span.start), span.end)
    return span and (_EARLIEST.date(), span[1])  # pins take an open span for that of their own


_EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)


def _volume_words(share: float) -> str:
    return f"at most {share * 100:g} % of a bar's volume"


def _fills_words(fills: str) -> str:
    return "market orders filled at the signal bar's close"


def _not_said(_: Any) -> str:
    return ""  # `RunSpec` does, which knows the prices


def _interest_words(rate: float) -> str:
    return f"annual interest on cash {rate * 100:g} %"


def _option(
    default: Any, words: str, read: Callable[[Any], Any] | None = None, said: Callable[[Any], str] | None = None
) -> Any:
    """
    Return a field of `Brokerage`.

    Args:
        words: its help text on the command line.
        read: converts a caller's value to a plain one, or raises UsageError; without it the engine checks the value.
        said: describes a value other than the default; without it, the description is name and value.
    """
    return field(default=default, metadata={"words": words, "read": read, "said": said})


NO_DIVIDENDS = "none"
BACKTRADER = "backtrader"  # an account without rules but Backtrader's own


# A new option is a field here, an item of the docstring, which `run` repeats, and a type in `BrokerageOptions`;
# its implementation is in `engine/`. The command line makes an option of it. At its default it changes no key, no name
# and no file of a run.
@dataclass(frozen=True, slots=True)
class Brokerage:
    """
    What a run's broker charges and pays, and how its market fills orders; you can reuse one object in many calls.

    Each field is an argument of `run` and of the other functions that run a strategy.

    Args:
        costs: a name in COSTS, "bp:RATE", or "futures:FEE:MULTIPLIER:MARGIN"; a number, the fraction of each fill's
            value (0.001 is a tenth of a percent, as in Backtrader's `setcommission`); a row as in COSTS; or a
            `bt.CommInfoBase`: each series gets a copy, and the spec keeps its class and parameters.
        slippage: "5bp", "0.01", "2ticks", "impact:0.1" or "spread"; see `Slippage.parse`. A bare number is money per
            share, as "0.01" is: five basis points of the price are "5bp", and 0.0005 is a twentieth of a cent. A number
            of 1 or more is refused, since it may be meant as basis points; write "money:5". No fill is ever outside its
            bar.
        volume_cap: the largest fraction of a bar's volume to trade, 0.1 for a tenth; the rest of an order waits.
        fills: "next-bar", or "this-close": market orders fill at the signal bar's close.
        borrow: annual fee for shares sold short; rules separated by commas, see `Borrowing.parse`; or "stored", the
            fee of each day from stored daily FEE_RATE bars, as IB charges it: see `StoredFees`.
        cash_rate: annual interest on idle cash; 0.02 is 2 %.
        align: a rule of ALIGNMENTS for the times of several series.
        size: the size for a strategy that leaves it open: "shares:100", "percent:95", "volatility:0.10", "kelly:0.5";
            or a whole number of shares or contracts per order. All but "shares:" accept a cap, the largest fraction of
            the account: "kelly:0.5:0.3". Sizes are whole shares, contracts and units of a currency, and multiples of
            0.00000001 for a cryptocurrency. All but "shares:" leave room for the next open: the account can pay if the
            price opens as far above the close as the largest opening gap of the last year, up to 20 %.
        dividends: "derived" from the stored daily bars TRADES and ADJUSTED_LAST of each stock, "none", or the path of a
            CSV file with the columns date,amount,currency: ex-dates, and split-adjusted amounts. A long position at the
            close before an ex-date receives them at the open of that date; a short position pays them. Vendors adjust
            ADJUSTED_LAST by different conventions: "derived" takes the one under which amounts are round;
            "derived:previous-close" and "derived:ex-close" choose one.
        interest: "ib" for the interest that IB pays on cash and on the proceeds of short sales, and charges for
            borrowed money: daily, by tiers around the federal funds rate, booked on the third business day of the next
            month; or the path of a CSV file of benchmark rates with the columns date,percent. Only for accounts in US
            dollars that trade stocks.
        withholding: withholding tax on dividends of long positions, 0.15 for 15 %.
        currency: the account's currency, such as "EUR". Default: that of the series; for several, US dollars if one of
            them is in dollars, otherwise the first in alphabetical order. Other amounts are converted at the last
            known rate, from stored bars of currency pairs such as EUR-CASH-IDEALPRO-USD/1day.
        conversion: "at-once", or "ib-forex": cash stays in the currency in which it came in, and what an order lacks of
            its currency is converted at IB's forex commission.
        quoted_in: the unit of prices if it is unknown or differs from IB's; rules separated by commas, such as
            "VUSA-STK-LSEETF-GBP/1day=GBP", or "=GBX" for pence.
        margin: margin per futures contract: 15000, or rules such as "ES-FUT-CME-USD-202612/1day=15000" separated by
            commas. Gains and losses are then settled in cash at every bar, and there are no margin calls. Without it a
            contract is paid for in full, as a share is: no leverage.
        splits: the path of a file of the splits that prices are adjusted for, one per line, such as 2000-06-21,2 (and
            the series, for a run on several); or such rows. Fees per share then apply to shares as traded. Default: the
            splits that the store recorded when it re-downloaded a series.
        account: "backtrader", whose rules require cash for purchases but nothing for short sales; "cash", which neither
            borrows nor sells short, and spends the proceeds of a sale once they have settled; "reg-t", a margin account
            as at IB, with 50 % initial margin, 25 % maintenance margin for long and 30 % for short positions, which
            reduces positions at the next open if equity falls short; or the path of a CSV file of margin requirements
            with the columns product,initial_long,maintenance_long,initial_short,maintenance_short, or of a .toml file
            with the same fields. An order beyond the account's buying power is rejected with a reason. "cash" and
            "reg-t" have rules for US stocks in US dollars, "reg-t" also for futures.
        universe: point-in-time index membership: a CSV or Parquet file, or a table, with the columns symbol, from, to
            (and delisting_return), or with date and a column for each symbol. A strategy calls
            `backtest.members(self)`; a position in a name whose bars have ended is sold at its last close, times (1 +
            delisting_return).
        missing_members: "refuse" a run if a name of its universe has no bars, or "allow" it with a note.
        fill_bars: the size of stored bars of the same instruments, such as "1min", on which orders fill: market orders
            in the first one after the decision, limits and stops in the order in which these bars touched them. On a
            day without such bars, orders fill in the run's own bar, and the day is counted.
    """

    costs: str | Any = field(  # as `costs_of` reads it; in a spec always the name
        default="ib-fixed",
        metadata={"words": "Commission: ib-fixed, ib-fixed-fees, ib-tiered, ib-forex, none, bp:RATE or "
                           "futures:FEE:MULT:MARGIN."},
    )  # fmt: skip
    slippage: str = _option(  # as `Slippage.parse` reads it
        "", "Slippage: 5bp, 0.01 (per share), 1tick, impact:0.1 or spread.", slippage_of
    )
    volume_cap: float = _option(  # most of a bar's volume that is traded; 0: no cap
        0.0, "Largest fraction of a bar's volume to trade, such as 0.1; 0 means no limit.", volume_cap_of, _volume_words
    )
    fills: str = _option(
        "next-bar",
        "Fill at next-bar, or at this-close (the signal bar's close, not achievable live).",
        None,
        _fills_words,
    )
    borrow: str = _option(  # rules of `Borrowing.parse`, commas between
        "",
        "Annual borrow fee: 0.01 for all series, GME/1day=0.3 for one, GME/1day@DATE=0.8 for one from DATE onward; "
        "separate several by commas. Or 'stored' for stored FEE_RATE bars.",
        borrowing_of,
        "borrow fee {}".format,
    )
    cash_rate: float = _option(  # annual interest on idle cash
        0.0,
        "Fixed annual interest rate on idle cash, instead of --interest; 0.02 is 2 %.",
        cash_rate_of,
        _interest_words,
    )
    align: str = _option(  # in ALIGNMENTS
        "as-is",
        "How to align several series: as-is, strict, intersection or forward-fill.",
        None,
        "series aligned by {}".format,
    )
    size: str = _option(  # as `Sizing.parse` reads it; "" where the strategy says how much
        "", "Position size: shares:100, percent:95, volatility:0.10 or kelly:0.5; the last three accept :CAP.", size_of
    )
    dividends: str | Any = field(  # as `dividends_of` reads it; in a spec always the name
        default=NO_DIVIDENDS,
        metadata={
            "words": "Dividends: none, derived (from TRADES and ADJUSTED_LAST), or a CSV file with "
            "the columns date,amount,currency.",
            "read": dividends_of_caller,
            "said": _not_said,
        },
    )
    interest: str | Any = field(  # as `benchmark_rates` reads it; in a spec always the name
        default="",
        metadata={
            "words": "Interest on cash, short proceeds and loans, in IB's tiers around a benchmark rate: none, ib (the "
            "federal funds rate), or a CSV file of benchmark rates with the columns date,percent.",
            "read": interest_of,
            "said": "interest {}".format,
        },
    )
    withholding: float = _option(  # of each dividend that a long position receives
        0.0, "Withholding tax on dividends; 0.15 is 15 %.", withholding_of, _not_said
    )
    currency: str = _option(  # of the account; "" for what `base_currency` makes of the series
        "",
        "Account currency, such as EUR. Default: the currency of the series; if they differ, USD if one of them is in "
        "dollars, otherwise the first in alphabetical order.",
        currency_text,
        "account in {}".format,
    )
    conversion: str = _option(  # in CONVERSIONS
        "at-once",
        "Currency conversion: at-once, or ib-forex to hold cash in each currency.",
        conversion_text,
        "conversion {}".format,
    )
    quoted_in: str = _option(  # rules of `quotation_rules`, commas between
        "",
        "Unit of the prices where unknown: SERIES=GBP for pounds, SERIES=GBX for pence.",
        quoted_in_text,
        "quoted in {}".format,
    )
    margin: str = _option(  # rules of `margin_rules`, commas between; "" for contracts that are paid for in full
        "",
        "Margin per futures contract: 15000 for all, or SERIES=15000 for one, several separated by commas.",
        margin_of,
        "margin of a contract {}".format,
    )
    splits: str = _option(  # rules of `split_rules`, commas between
        "",
        "CSV file of splits with the columns date,ratio; fees are then charged on shares as traded.",
        splits_text,
        _not_said,
    )
    account: str | Any = field(  # as `margin_table` reads it; in a spec always the name
        default=BACKTRADER,
        metadata={
            "words": "Account type: backtrader, cash, reg-t, or a file of margin requirements, .csv or .toml.",
            "read": account_of,
            "said": "account {}".format,
        },
    )
    universe: str | Any = field(  # as `universe_of` reads it; in a spec the text that identifies it
        default="",
        metadata={
            "words": "Index membership: a CSV or Parquet file with the columns symbol,from,to, or with a date column "
            "and one column per symbol.",
            "read": _read_universe,
            "said": "universe {}".format,
        },
    )
    missing_members: str = _option(  # in MISSING_MEMBERS
        REFUSE,
        "If universe members have no bars: refuse, or allow with a note.",
        missing_members_of,
        "members without bars: {}".format,
    )
    fill_bars: str = _option(  # as `BarSize` spells it; "" for the bars of the run
        "", "Fill orders on stored bars of this smaller size, such as 1min.", fill_bars_of, "filled on {} bars".format
    )

    @property
    def flat(self) -> dict[str, Any]:
        """The values by name, as version 0.1.0 stored them in a spec; later fields only if they are not the default."""
        return _counting(self, _BROKERAGE_OF_0_1_0)

    @property
    def conditions(self) -> str:
        """The costs, and every market setting that is not the default, in words; the spec adds dividends."""
        values = [(one, getattr(self, one.name)) for one in fields(self)]
        told = (_said(one, value) for one, value in values if one.name == "costs" or value != one.default)
        return ", ".join(filter(None, told))


class BrokerageOptions(TypedDict, total=False):
    """The fields of a `Brokerage` as keyword arguments, in the form in which people write them."""

    costs: str | float | Any
    slippage: str | float
    volume_cap: float | str
    fills: str
    borrow: str | float
    cash_rate: float | str
    align: str
    size: str | int
    dividends: str | Path | Any
    interest: str | Path | Any
    withholding: float | str
    currency: str
    conversion: str
    quoted_in: str
    margin: str | float
    splits: str | Any
    account: str | Path | Any
    universe: str | Path | Any
    missing_members: str
    fill_bars: str


class RunOptions(BrokerageOptions, total=False):
    """The settings of a run besides its strategy, bars and parameters, as keyword arguments."""

    cash: float | str
    benchmark: Series | str
    risk_free: float | str
    periods: float | str
    brokerage: Brokerage | None


def _texts_of(kind: Any) -> dict[str, str]:
    return {name: one.__forward_arg__ for name, one in kind.__annotations__.items()}


_ACCOUNT = {"cash": 100_000.0, "benchmark": "", "risk_free": 0.0, "periods": 0.0, "brokerage": None}
_DEFAULTS = _ACCOUNT | {one.name: one.default for one in fields(Brokerage)}
# Decorators of functions that take `**options: Unpack[BrokerageOptions]`, or `**asked: Unpack[RunOptions]`.
takes_brokerage_options = _arguments.spelled_out(_texts_of(BrokerageOptions), _DEFAULTS, described=Brokerage.__doc__)
takes_run_options = _arguments.spelled_out({**dict.fromkeys(_ACCOUNT), **_texts_of(RunOptions)}, _DEFAULTS)


def brokerage_of(given: Brokerage | None, options: Mapping[str, Any]) -> Brokerage:
    """
    Return a caller's broker and market settings, from an object, keyword arguments or both, as plain values.

    Raises:
        UsageError: a name is unknown, a field is set in both ways, or a value cannot be read.
    """
    example = 'write Brokerage(slippage="5bp"), or slippage="5bp" without it'
    brokerage = Brokerage() if given is None else _arguments.instance(given, "brokerage", Brokerage, example)
    known = {one.name: one for one in fields(brokerage)}
    if unknown := sorted(set(options) - set(known)):
        every = [*RunOptions.__annotations__, *(name for name in known if name not in RunOptions.__annotations__)]
        raise UsageError(f"a run has no option {', '.join(unknown)}; {there_are(unknown[0], every)}")
    set_before = [name for name in options if _is_set(getattr(brokerage, name), known[name].default)]
    if set_before:
        raise UsageError(
            f"{', '.join(set_before)} of the broker is given twice, by brokerage= and by its own name; leave out one"
        )
    values = {name: options.get(name, getattr(brokerage, name)) for name in known}
    plain = {name: _read(known[name], value) for name, value in values.items()}
    if "slippage" in options:  # an object may be that of a saved run
        _ask_about_slippage(plain["slippage"])
    return replace(brokerage, **plain)


def with_kept_universe(brokerage: Brokerage, manifest: Mapping[str, Any]) -> Brokerage:
    """Return a brokerage with the universe saved in a manifest, instead of the text that identifies it."""
    kept = manifest.get("universe")
    if not kept or not isinstance(brokerage.universe, str):
        return brokerage
    from backtest.market.universe import Universe

    found = Universe.read(kept)
    return replace(brokerage, universe=found) if found.text == brokerage.universe else brokerage


_LARGE_SLIPPAGE = 1.0  # in currency per share: a user who writes 5 more likely means basis points


def _ask_about_slippage(text: str) -> None:
    """
    Refuse slippage that is a bare number, too large to be meant as money per share.

    Raises:
        UsageError: it is too large; the text says how to write what may be meant.
    """
    with suppress(ValueError):
        if (amount := float(text)) >= _LARGE_SLIPPAGE:
            raise UsageError(
                f"slippage {text} is ambiguous; write {amount:.10g}bp for {amount:.10g} basis points of the price, or "
                f"money:{amount:.10g} for {amount:.10g} per share in the instrument's currency"
            )


def _is_set(value: Any, default: Any) -> bool:
    # A table, such as a universe, has no single answer to whether it differs.
    return not isinstance(value, str | int | float) or value != default


def _read(one: Field[Any], value: Any) -> Any:
    read = one.metadata.get("read")
    return read(value) if read else value


def _said(one: Field[Any], value: Any) -> str:
    said = one.metadata.get("said")
    return str(said(value)) if said else f"{one.name} {value}"


@dataclass(frozen=True, slots=True)
class RunSpec:
    """
    The settings of a run; the same spec on the same bars gives the same result.

    `risk_free` is an annual return (0.05 is 5 %); `since` and `until` are dates of sessions, both included, "" for no
    limit. `yearly` gives the periods per year: `periods` if the caller set them, otherwise those in `measured_by`, such
    as "52 weeks", otherwise `sessions_a_year`.
    """

    strategy: str  # file.py:Name or module:Name
    series: tuple[str, ...]
    since: str = ""
    until: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    cash: float = 100_000.0
    benchmark: str = ""  # a series; "" for buy and hold of the run's own series
    risk_free: float = 0.0
    sessions_a_year: float = 252.0  # as version 0.1.0 computed them, which the key hashes
    brokerage: Brokerage = field(default_factory=Brokerage)
    periods: float = 0.0  # per year, if the user set them
    measured_by: str = ""  # as `Periods` spells it; "" for `sessions_a_year`; follows from series and calendar
    rates: str = ""  # SHA-256 of the risk-free returns per session; "" if `risk_free` is an annual rate
    warm_up: str = ""  # bars before `since` that indicators see: "auto" for all that are stored, or their number
    multipliers: tuple[float, ...] = ()  # what a point of each series is worth; () where the costs say, or all are 1

    @property
    def yearly(self) -> Periods:
        """The periods per year for annualising."""
        found = Periods.parse(self.measured_by) if self.measured_by else Periods(self.sessions_a_year)
        return replace(found, count=self.periods) if self.periods else found

    @property
    def flat(self) -> dict[str, Any]:
        """
        The values by name, including the fields of the brokerage: the form in which a spec is stored since 0.1.0.

        Parameters are in the JSON form of `runs.parameters`.

        Fields added after 0.1.0 are included only if they are not the default, so that 0.1.0 can read it too.
        """
        return self._flat(for_key=False)

    def _flat(self, for_key: bool) -> dict[str, Any]:
        own = _counting(self, _SPEC_OF_0_1_0)
        del own["brokerage"]
        if for_key:
            own.pop("measured_by", None)
            own.pop("multipliers", None)  # they follow from the stored contracts
        return {**own, "params": kept_params(self.params, for_key), **self.brokerage.flat}

    @property
    def key(self) -> str:
        """Ten hex digits that identify this spec, the same on every machine."""
        asked = {name: value for name, value in self._flat(for_key=True).items() if value != _LATER.get(name)}
        return hashlib.sha256(json_text(asked).encode()).hexdigest()[:10]

    @property
    def span(self) -> Span | Sessions:
        """The requested bars, as in `run`: a span of stamps, or the first and the last session."""
        if "T" in self.since:
            return Span(datetime.fromisoformat(self.since), datetime.fromisoformat(self.until))
        since, until = (date.fromisoformat(text) if text else None for text in (self.since, self.until))
        return since, until

    @property
    def span_read(self) -> Span | Sessions:
        """The bars to read: those of the span, and with a warm-up those before it."""
        return (span_read(self.span) or self.span) if self.warm_up else self.span

    @property
    def points(self) -> tuple[float, ...]:
        """The value in money of one point of each series' price: see `multiplier`, and `engine.account.contracts`."""
        return self.multipliers or (self.multiplier,) * len(self.series)

    @property
    def points_by_name(self) -> dict[str, float]:
        """The same by the short name of the series, as in the tables of fills."""
        return {Series.parse(key).short: point for key, point in zip(self.series, self.points, strict=True)}

    @property
    def multiplier(self) -> float:
        """The value in money of one point of a contract, if the costs give it: "futures:...", or a commission."""
        costs = self.brokerage.costs
        start, end = costs.find("{"), costs.rfind("}") + 1  # a commission's parameters: see `commissions.costs_of`
        try:
            if costs.startswith("futures:"):
                return float(costs.split(":")[2])
            return float(json.loads(costs[start:end]).get("mult", 1.0)) if end else 1.0
        except (ValueError, IndexError, TypeError, AttributeError) as error:
            raise UsageError(f"the costs {costs!r} of the run cannot be read ({error}); run it again") from error

    @property
    def conditions(self) -> str:
        """The costs, and every market setting that is not the default or not obvious, in words."""
        return ", ".join([self.brokerage.conditions, *self._doubts(), *self._prices()])

    def _prices(self) -> Iterator[str]:
        """Yield the kind of prices of the run, and whether dividends were paid."""
        every = [Series.parse(key) for key in self.series]
        yield f"prices {' and '.join(dict.fromkeys(one.prices for one in every))}"
        if not any(one.instrument.kind == "STK" for one in every):
            return
        paid, withheld = self.brokerage.dividends, self.brokerage.withholding
        if paid != NO_DIVIDENDS:
            yield f"dividends {paid}" + (f", {withheld * 100:g} % of them withheld" if withheld else "")
        elif all(one.prices == "ADJUSTED_LAST" for one in every):
            yield "dividends included"
        else:
            yield "dividends excluded"

    @property
    def base_currency(self) -> str:
        """The currency of the account: the one that was set, otherwise that of the series."""
        return base_currency(map(Series.parse, self.series), self.brokerage.currency)

    @property
    def has_several_currencies(self) -> bool:
        """Whether the prices of its series are in more than one currency."""
        return len({currency_of(Series.parse(key).instrument) for key in self.series}) > 1

    def _doubts(self) -> Iterator[str]:
        instruments = [Series.parse(key).instrument for key in self.series]
        if not self.multipliers and self.multiplier == 1 and any(one.kind in FUTURE_KINDS for one in instruments):
            yield "a point of a contract taken for 1"
        yield from self._terms()

    def _terms(self) -> Iterator[str]:
        """Yield the multiplier of each contract, by its contract details, and whether it is paid for in full."""
        for key, point, margin in zip(self.series, self.multipliers, self.margins, strict=False):
            one = Series.parse(key)
            if one.instrument.kind in CONTRACT_KINDS or point != 1:
                known = margin is not None or self.strategy == COMBINED
                paid = "" if known else ", contracts paid for in full"  # of a combination each run says so
                yield f"a point of {one.instrument.symbol} worth {point:g} {one.instrument.currency}{paid}"

    @property
    def margins(self) -> tuple[float | None, ...]:
        """Margin per contract of each series; None for series that are paid for in full. Costs may set it, too."""
        rules = margin_rules(self.brokerage.margin)
        every = [Series.parse(key) for key in self.series]
        return tuple(
            rules.get(one.short, rules.get("")) if one.instrument.kind in FUTURE_KINDS else None for one in every
        )

    @property
    def name(self) -> str:
        """The strategy's own name."""
        return self.strategy.rpartition(":")[2]


COMBINED = "combine:Combination"
"""What replaces a strategy in the spec of a combination of runs, which has none of its own."""


def check_has_strategy(strategy: object) -> None:
    """
    Refuse to repeat a run that has no strategy of its own.

    Raises:
        UsageError: it is a combination.
    """
    if strategy == COMBINED:
        raise UsageError(
            "a combination of saved runs has no strategy to run again; run its runs again, and combine those"
        )


# Version 0.1.0 kept all of these but periods, measured_by, rates, warm_up, and those of the broker that came later.
_SHAPE = keyed(
    {"strategy": TEXT, "series": list_of(TEXT)},
    {
        **dict.fromkeys(("since", "until", "benchmark", "measured_by", "rates", "warm_up"), TEXT),
        **dict.fromkeys(
            (
                "costs",
                "slippage",
                "fills",
                "borrow",
                "align",
                "size",
                "dividends",
                "interest",
                "margin",
                "splits",
                "account",
            ),
            TEXT,
        ),
        **dict.fromkeys(("currency", "conversion", "quoted_in", "universe", "missing_members", "fill_bars"), TEXT),
        **dict.fromkeys(("cash", "risk_free", "sessions_a_year", "periods", "volume_cap", "cash_rate"), NUMBER),
        "withholding": NUMBER,
        "params": mapped(ANYTHING),
        "multipliers": list_of(NUMBER),
    },
)


def kept_spec(flat: Any) -> RunSpec:
    """
    Return the spec from its flat form in a file of any origin.

    Raises:
        Misfit: it is not a spec; the text names the key.
    """
    _SHAPE(flat, "")
    if not flat["series"]:
        raise Misfit("series is empty")
    for key, name in [*((f"series[{n}]", name) for n, name in enumerate(flat["series"])), ("benchmark", None)]:
        _check_reads(key, Series.parse, name if name is not None else flat.get("benchmark", ""))
    for key, least in (("cash", 0.0), ("sessions_a_year", 0.0), ("risk_free", -1.0)):
        if not flat.get(key, 1.0) > least:
            raise Misfit(f"{key} is {flat[key]}, not more than {least:g}")
    try:
        spec = spec_of(flat)
    except (TypeError, KeyError, ValueError) as error:
        raise Misfit(str(error)) from error
    _check_reads("warm_up", warm_up_text, spec.warm_up)
    _check_reads("since and until", lambda _: spec.span, (spec.since, spec.until))
    _check_reads("measured_by", lambda _: spec.yearly, spec.measured_by)
    _check_reads("costs", lambda _: spec.multiplier, spec.brokerage.costs)
    _check_reads("currency", currency_text, spec.brokerage.currency)
    _check_reads("conversion", conversion_text, spec.brokerage.conversion)
    _check_reads("quoted_in", quoted_in_text, spec.brokerage.quoted_in)
    _check_reads("margin", margin_rules, spec.brokerage.margin)
    _check_reads("splits", split_rules, spec.brokerage.splits)
    _check_reads("missing_members", missing_members_of, spec.brokerage.missing_members)
    _check_reads("fill_bars", fill_bars_of, spec.brokerage.fill_bars)
    if spec.brokerage.universe:
        _check_digest(spec.brokerage.universe)
    if spec.multipliers and len(spec.multipliers) != len(spec.series):
        raise Misfit(f"multipliers are {len(spec.multipliers)}, of {len(spec.series)} series")
    return spec


def _check_digest(universe: str) -> None:
    from backtest.market.universe import is_digest

    if not is_digest(universe):
        raise Misfit(f"universe is {universe!r:.80}, and no digest of one")


def _check_reads(key: str, read: Callable[[Any], object], value: Any) -> None:
    try:
        if value != "":
            read(value)
    except (UsageError, ValueError, TypeError, OverflowError) as error:
        raise Misfit(f"{key} is {value!r:.80}: {error}") from error


def spec_of(flat: Mapping[str, Any]) -> RunSpec:
    """
    Return the spec from its flat form.

    Raises:
        TypeError, KeyError, ValueError: it is not a spec.
    """
    of_broker = {one.name for one in fields(Brokerage)}
    brokerage = Brokerage(**{name: value for name, value in flat.items() if name in of_broker})
    own = {name: value for name, value in flat.items() if name not in of_broker}
    params = read_params(own.get("params", {}))
    own |= {name: tuple(own.get(name, ())) for name in ("series", "multipliers")}
    return RunSpec(**{**own, "params": params}, brokerage=brokerage)


# Version 0.1.0 kept these whatever their values, and keyed trials by them; other fields came later.
_BROKERAGE_OF_0_1_0 = ("costs", "slippage", "volume_cap", "fills", "borrow", "cash_rate", "align", "size")
_SPEC_OF_0_1_0 = (
    "strategy", "series", "since", "until", "params", "cash", "benchmark", "risk_free", "sessions_a_year", "brokerage"
)  # fmt: skip
# In the key of a run only the costs always count, so that names of older runs stay the same.
_LATER = {one.name: one.default for one in fields(Brokerage) if one.name != "costs"}


def _counting(thing: Brokerage | RunSpec, always: Iterable[str]) -> dict[str, Any]:
    """Return the values of fields by name: those that always count, and others that are not the default."""
    values = {one.name: (getattr(thing, one.name), _default(one)) for one in fields(thing)}
    return {name: value for name, (value, default) in values.items() if name in always or value != default}


def _default(one: Field[Any]) -> Any:
    return one.default_factory() if callable(one.default_factory) else one.default


def json_text(value: Any) -> str:
    """Return the JSON text that is hashed and saved; raise UsageError for a value that JSON cannot hold."""
    try:
        return json.dumps(value, sort_keys=True, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the run cannot be saved ({error}); use numbers, strings or booleans") from error
