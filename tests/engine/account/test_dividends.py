"""Dividends derived from prices that were made up with them, from those of the sample, and read from a file."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest

from backtest import run
from backtest.engine.account.dividends import (
    CONVENTIONS,
    EX_CLOSE,
    PREVIOUS_CLOSE,
    DividendTable,
    Unfitting,
    check_dividends,
    derive,
    dividends_of,
    series_read,
)
from backtest.errors import DataError, NoBars, UsageError
from backtest.market import arrays
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.store.reader import HeldReader
from backtest.store.store import Store

SAMPLE = Path("data/sample")
DAYS = np.arange("2015-01-01", "2018-06-01", dtype="datetime64[D]")
DAYS = DAYS[np.is_busday(DAYS)]
QUARTERLY = {60 * n: 0.50 + 0.01 * (n // 4) for n in range(1, 14)}  # by the bar of the ex-date
SPECIAL = {**QUARTERLY, 250: 3.00, 251: 0.07}
SPLITS = {200: 7.0, 333: 1.5, 500: 2.0, 700: 0.1}  # shares for one, by the first bar after


def vendor(paid, convention, splits=None, digits=4, seed=0):
    """
    Return traded and adjusted prices as a vendor serves them, and each dividend in adjusted shares.

    What is paid is money of that day, for a share of that day.
    """
    random = np.random.default_rng(seed)
    level = 80 * np.exp(np.cumsum(random.normal(0, 0.012, len(DAYS))))
    around = np.exp(random.normal(0, 0.004, (len(DAYS), 3)))
    shares = np.ones(len(DAYS))  # of today, for one of that day
    for bar, ratio in (splits or {}).items():
        shares[:bar] *= ratio
    unadjusted = np.round(np.column_stack([level[:, None] * around, level]) * shares[:, None], 2)
    unadjusted[:, 1], unadjusted[:, 2] = unadjusted.max(axis=1), unadjusted.min(axis=1)
    traded = unadjusted / shares[:, None]
    factor, put_in = np.ones(len(DAYS)), {}
    for bar, money in paid.items():
        amount = money / shares[bar]
        before, after = traded[bar - 1, 3], traded[bar, 3]
        factor[:bar] *= 1 - amount / before if convention == PREVIOUS_CLOSE else after / (after + amount)
        put_in[DAYS[bar]] = amount
    adjusted = traded * factor[:, None]
    return traded, adjusted if digits is None else np.round(adjusted, digits), dict(sorted(put_in.items()))


def assert_given_back(found, put_in):
    assert found.days.tolist() == [day.item() for day in put_in]
    assert found.amounts == pytest.approx(list(put_in.values()), abs=1e-9)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("digits", [None, 4])
def test_what_was_put_in_comes_back(convention, digits):
    traded, adjusted, put_in = vendor(SPECIAL, convention, digits=digits)

    found = derive(DAYS, traded, adjusted)

    assert found.convention == convention
    assert found.round_by[convention] == len(put_in)
    assert_given_back(found, put_in)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("seed", range(4))
def test_splits_leave_no_trace_but_in_the_amounts(convention, seed):
    traded, adjusted, put_in = vendor(SPECIAL, convention, SPLITS, digits=None, seed=seed)

    found = derive(DAYS, traded, adjusted)

    assert found.convention == convention
    assert_given_back(found, put_in)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_prices_in_cents_tell_the_amounts_too(convention):
    traded, adjusted, put_in = vendor(QUARTERLY, convention, digits=2)

    found = derive(DAYS, traded, adjusted)

    assert found.convention == convention
    assert_given_back(found, put_in)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_week_without_bars_changes_nothing(convention):
    traded, adjusted, put_in = vendor(QUARTERLY, convention)
    kept = np.r_[0:100, 105 : len(DAYS)]

    found = derive(DAYS[kept], traded[kept], adjusted[kept], missing=lambda *_: [date(2015, 5, 21)])

    assert_given_back(found, put_in)
    assert found.doubts == {}


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_an_ex_date_in_a_week_without_bars_is_doubtful(convention):
    traded, adjusted, put_in = vendor(QUARTERLY, convention)
    kept = np.r_[0:118, 123 : len(DAYS)]  # of which bar 120 is one

    found = derive(DAYS[kept], traded[kept], adjusted[kept])

    gone, doubted = str(DAYS[120]), str(DAYS[123])
    assert list(found.doubts) == [doubted]
    assert "5 sessions before it have no bar" in found.doubts[doubted]
    sure = {day: amount for day, amount in put_in.items() if str(day) != gone}
    known = {day: amount for day, amount in zip(found.days, found.amounts, strict=True) if str(day) != doubted}
    assert known == pytest.approx(sure, abs=1e-9)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_step_as_large_as_a_split_is_doubtful(convention):
    traded, adjusted, _ = vendor({**QUARTERLY, 400: 40.0}, convention)

    found = derive(DAYS, traded, adjusted)

    assert list(found.doubts) == [str(DAYS[400])]
    assert "a special dividend, or a split" in found.doubts[str(DAYS[400])]


def test_an_amount_that_is_not_round_is_doubtful_and_as_exact_as_the_prices():
    traded, adjusted, put_in = vendor({**QUARTERLY, 410: 0.34821937}, PREVIOUS_CLOSE)

    found = derive(DAYS, traded, adjusted)

    assert list(found.doubts) == [str(DAYS[410])]
    assert found.amounts == pytest.approx(list(put_in.values()), abs=1e-5)


def test_prices_that_fit_neither_convention_are_refused_with_the_first_misfit():
    traded, adjusted, put_in = vendor({}, EX_CLOSE, digits=None)
    for bar, amount in QUARTERLY.items():
        adjusted[:bar] *= 1 - amount / traded[bar, 0]  # the open of the ex-date

    with pytest.raises(Unfitting, match=rf"too few of the .* the first that is not is on {DAYS[60]}: "):
        derive(DAYS, traded, np.round(adjusted, 4))

    assert put_in == {}


def test_a_ratio_that_falls_is_refused_with_its_date():
    traded, adjusted, _ = vendor(QUARTERLY, PREVIOUS_CLOSE)
    adjusted[300:] *= 0.99

    with pytest.raises(Unfitting, match=rf"falls on {DAYS[300]}"):
        derive(DAYS, traded, adjusted)


def test_a_ratio_that_moves_from_bar_to_bar_is_refused():
    traded, adjusted, _ = vendor({}, PREVIOUS_CLOSE, digits=None)
    rising = np.exp(np.linspace(-0.2, 0, len(DAYS)))[:, None]

    with pytest.raises(Unfitting, match=rf"moves .* first on {DAYS[1]}"):
        derive(DAYS, traded, adjusted * rising)


def test_a_convention_that_is_named_is_taken():
    traded, adjusted, put_in = vendor(QUARTERLY, EX_CLOSE)

    found = derive(DAYS, traded, adjusted, PREVIOUS_CLOSE)

    before = np.array([traded[list(DAYS).index(day) - 1, 3] for day in put_in])
    after = np.array([traded[list(DAYS).index(day), 3] for day in put_in])
    amounts = np.array(list(put_in.values()))
    assert found.amounts == pytest.approx(before * amounts / (after + amounts), abs=1e-4)


def test_without_a_step_there_are_no_dividends():
    traded, adjusted, _ = vendor({}, PREVIOUS_CLOSE)

    assert len(derive(DAYS, traded, adjusted).days) == 0


# --- IBM, 2000 to 2013
# Money of each year per share, of all four payments: smartdividendstocks.com/ibm-dividend-history, 2016. Before the
# sample begins lies one of 2000: 0.12, by ibm.com/investor. The last eleven ex-dates: gurufocus.com/dividend/IBM, 2014,
# and the record dates of ibm.com/investor/governance/ibm-cash-dividends two business days after them.
YEARS = {2000: 0.51 - 0.12, 2001: 0.55, 2002: 0.59, 2003: 0.63, 2004: 0.70, 2005: 0.78, 2006: 1.10, 2007: 1.50,
         2008: 1.90, 2009: 2.15, 2010: 2.50, 2011: 2.90, 2012: 3.30}  # fmt: skip
PUBLISHED = {
    "2010-08-06": 0.65, "2010-11-08": 0.65, "2011-02-08": 0.65, "2011-05-06": 0.75, "2011-08-08": 0.75,
    "2011-11-08": 0.75, "2012-02-08": 0.75, "2012-05-08": 0.85, "2012-08-08": 0.85, "2012-11-07": 0.85,
    "2013-02-06": 0.85,
}  # fmt: skip


def derived(name, given="derived"):
    series = Series.parse(name)
    return dividends_of(given, Store(SAMPLE), [series]).of(series)


def test_the_dividends_of_ibm_are_those_that_were_published():
    found = derived("IBM/1day")

    assert len(found.days) == 52
    assert dict(zip(found.days[-11:], found.amounts[-11:], strict=True)) == pytest.approx(PUBLISHED, abs=0.005)
    paid = {
        year: sum(a for d, a in zip(found.days, found.amounts, strict=True) if d[:4] == str(year)) for year in YEARS
    }
    assert paid == pytest.approx(YEARS, abs=0.005)
    assert found.currency == "USD"
    assert "by the ex-close convention, under which 52 of 52" in found.how
    assert found.doubts == ()


def test_every_ex_date_of_ibm_is_two_business_days_before_its_record_date():
    """That is the tenth of the month, or the last business day before; trades settled in three days until 2017."""
    open_days = arrays.numbers(Store(SAMPLE).read("IBM/1day")["time"]).astype("datetime64[us]").astype("datetime64[D]")

    expected = [open_days[open_days <= np.datetime64(f"{day[:7]}-10")][-3] for day in derived("IBM/1day").days]

    assert derived("IBM/1day").dates.tolist() == [day.item() for day in expected]


def test_the_special_dividend_of_microsoft_is_found_and_doubted():
    found = derived("MSFT/1day")

    assert dict(zip(found.days, found.amounts, strict=True))["2004-11-15"] == pytest.approx(3.08)  # 3.00 and 0.08
    assert [one[:10] for one in found.doubts] == ["2004-11-15"]


def test_an_intraday_series_is_paid_what_its_days_say():
    store = Store(SAMPLE)

    assert derived("IBM/1hour").amounts == derived("IBM/1day").amounts
    assert series_read("derived", [Series.parse("IBM/1hour")]) == [
        Series.parse("IBM/1day"),
        Series.parse("IBM/1day/ADJUSTED_LAST"),
    ]
    assert store.named("IBM/1day") == Series.parse("IBM/1day")


# --- what is asked


def test_adjusted_prices_are_refused_as_they_would_count_twice():
    with pytest.raises(UsageError, match="IBM/1day/ADJUSTED_LAST has prices that already include dividends"):
        derived("IBM/1day/ADJUSTED_LAST")


def test_weekly_bars_are_refused():
    with pytest.raises(UsageError, match="span an ex-date"):
        derived("IBM/1week")


def test_a_series_that_is_not_stored_is_named():
    with pytest.raises(NoBars, match="ORCL/1day and ORCL/1day/ADJUSTED_LAST"):
        derived("ORCL/1day")


def test_what_fits_nothing_names_the_ways_out(tmp_path):
    store = Store(tmp_path)
    plain, adjusted = (Store(SAMPLE).read(f"IBM/1day{one}") for one in ("", "/ADJUSTED_LAST"))
    ratio = np.linspace(0.8, 1, len(adjusted))
    for name in ("open", "high", "low", "close"):
        values = arrays.floats(arrays.numbers(plain[name]) * ratio)
        place = adjusted.column_names.index(name)
        adjusted = adjusted.set_column(place, adjusted.schema.field(place), values)
    whole = Span.of_dates(date(2000, 1, 1), date(2013, 12, 31))
    store.write(Series.parse("IBM/1day"), whole, plain)
    store.write(Series.parse("IBM/1day/ADJUSTED_LAST"), whole, adjusted)

    with pytest.raises(DataError, match=r"no dividends of IBM/1day .* --dividends FILE"):
        dividends_of("derived", store, [Series.parse("IBM/1day")])


@pytest.mark.parametrize(
    ("rows", "known"), [(slice(0, 300), "2000-03-01 to 2001-05-08"), (slice(300, None), "2001-05-09 to 2013-03-01")]
)
def test_a_run_is_within_the_time_that_its_dividends_are_known_of(rows, known):
    plain, adjusted = (Series.parse(name) for name in ("IBM/1day", "IBM/1day/ADJUSTED_LAST"))
    whole = {one: Store(SAMPLE).read(one) for one in (plain, adjusted)}
    store = HeldReader("held", {plain: whole[plain], adjusted: whole[adjusted][rows]})
    asked = {"store": store, "dividends": "derived", "lines": False}

    with pytest.raises(
        NoBars, match=rf"IBM/1day are known from {known}.*, and the run is from 2001-02-01 to 2001-10-01"
    ):
        run("strategies/buy_and_hold.py", plain, start="2001-02-01", end="2001-10-01", **asked)
    inside = ("2000-03-01", "2001-05-08") if rows.stop == 300 else ("2001-05-09", "2001-09-28")
    assert run("strategies/buy_and_hold.py", plain, start=inside[0], end=inside[1], **asked).stats["dividends"] > 0


def test_what_is_no_stock_pays_nothing():
    series = Series.parse("EUR-CASH-IDEALPRO-USD/1day")

    assert dividends_of("derived", Store(SAMPLE), [series]).of(series) is None


def file_of(tmp_path, text):
    path = tmp_path / "paid.csv"
    path.write_text(text)
    return path


def read(path, *names):
    return dividends_of(str(path), Store(SAMPLE), [Series.parse(name) for name in names or ("IBM/1day",)])


def test_a_file_of_dividends_is_of_stocks(tmp_path):
    path = file_of(tmp_path, "date,amount,currency\n2003-02-06,0.15,USD\n")

    with pytest.raises(UsageError, match=r"paid.csv' are of stocks, and none of EUR-CASH/1day is one; leave out"):
        read(path, "EUR-CASH-IDEALPRO-USD/1day")


def test_a_file_has_a_line_for_each_dividend(tmp_path):
    path = file_of(tmp_path, "Date, Amount,Currency\n2003-05-07,0.16,USD\n2003-02-06,0.15,USD\n")

    found = read(path).of(Series.parse("IBM/1day"))

    assert found.days == ("2003-02-06", "2003-05-07")
    assert found.amounts == (0.15, 0.16)


def test_a_file_for_several_series_names_them(tmp_path):
    path = file_of(tmp_path, "date,amount,currency,series\n2003-05-07,0.16,USD,IBM\n2003-02-19,0.08,USD,MSFT/1day\n")

    found = read(path, "IBM/1day", "MSFT/1day")

    assert [found.of(Series.parse(name)).amounts for name in ("IBM/1day", "MSFT/1day")] == [(0.16,), (0.08,)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("date,amount,currency\n2003-05-07,0.16,EUR\n", "line 2 of paid.csv is in EUR, and IBM/1day is traded in USD"),
        ("date,amount\n2003-05-07,0.16\n", "have the columns date, amount: no currency; begin with"),
        ("date,amount,currency\n2003-05-07,0.16,\n", "is in no currency"),
        ("2003-05-07,0.16,USD\n", "have the columns 2003-05-07, 0.16, usd: no date, amount, currency"),
        ("date;amount;currency\n2003-05-07;0.16;USD\n", "no date, amount, currency"),
        ("date,dividend,currency\n2003-05-07,0.16,USD\n", "no amount"),
        ("", "have no columns"),
        ("date,amount,currency\n7.5.2003,0.16,USD\n", "has no ex-date"),
        ("date,amount,currency\n2003-05-07,-0.16,USD\n", "has the amount '-0.16'"),
        ("date,amount,currency\n2003-05-07,nan,USD\n", "has the amount 'nan'"),
        ("date,amount,currency\n2003-05-07,1,USD\n2003-05-07,2,USD\n", "line 3 of paid.csv is a second dividend"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_with_the_line(tmp_path, text, said):
    with pytest.raises(UsageError, match=said):
        read(file_of(tmp_path, text))


def test_several_series_need_a_column_of_their_names(tmp_path):
    path = file_of(tmp_path, "date,amount,currency\n2003-05-07,0.16,USD\n")

    with pytest.raises(UsageError, match="does not say which of the 2 series"):
        read(path, "IBM/1day", "MSFT/1day")


@pytest.mark.parametrize(
    ("given", "withheld", "said"),
    [
        ("derived:no-close", 0.0, "no dividends file 'derived:no-close'"),
        ("nowhere.csv", 0.0, "no dividends file 'nowhere.csv'"),
        ("derived", 1.5, "withholding is 1.5; it must be at least 0 and below 1"),
        ("none", 0.15, "withholding is 0.15, but dividends are excluded; set dividends, such as derived"),
    ],
)
def test_what_cannot_be_asked_is_refused_at_the_door(given, withheld, said):
    with pytest.raises(UsageError, match=said):
        check_dividends(given, withheld)


def test_a_table_comes_back_from_its_document():
    series = Series.parse("IBM/1day")
    table = dividends_of("derived", Store(SAMPLE), [series])

    again = DividendTable.read(table.document)

    assert (again, again.digest) == (table, table.digest)


def test_a_table_ends_where_a_run_does():
    series = Series.parse("IBM/1day")
    table = dividends_of("derived", Store(SAMPLE), [series])

    part = table.within({series: (np.datetime64("2012-05-08"), np.datetime64("2013-02-06"))})

    assert part.of(series).days == ("2012-08-08", "2012-11-07", "2013-02-06")


def test_a_hand_worked_amount():
    """1.25 from a close of 100 to one of 110: the adjusted close before is 98.75, or 100·110 / 111.25."""
    days = np.array(["2024-03-01", "2024-03-04"], "datetime64[D]")
    traded = np.array([[100.0] * 4, [110.0] * 4])
    for convention, adjusted in ((PREVIOUS_CLOSE, 98.75), (EX_CLOSE, 100 * 110 / 111.25)):
        found = derive(days, traded, np.array([[adjusted] * 4, [110.0] * 4]), convention)

        assert found.amounts == pytest.approx([1.25], abs=1e-6)
