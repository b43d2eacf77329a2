"""Money of several currencies in one run, against accounts that are kept without the package."""

import shutil
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from ledger import known_at
from random_money import differences, drawn

import backtest
from backtest import Store, compare, measure, sweep
from backtest.baselines.baseline import Baseline
from backtest.baselines.causes import CAUSE, explain
from backtest.baselines.changes import Scene
from backtest.errors import BrokenPin, NoBars, UsageError
from backtest.market.bars import table_of
from backtest.market.series import ContractDetails, Series
from backtest.market.span import Span
from backtest.research.lookahead import look_ahead
from backtest.store.pins import add as pin

APPLE, TOYOTA, VODAFONE = "AAPL/1day", "7203-STK-TSEJ-JPY/1day", "VOD-STK-LSE-GBP/1day"
EURUSD, USDJPY, EURGBP = (f"{pair}/1day/MIDPOINT" for pair in (
    "EUR-CASH-IDEALPRO-USD", "USD-CASH-IDEALPRO-JPY", "EUR-CASH-IDEALPRO-GBP"))  # fmt: skip
DAYS = pd.bdate_range("2023-06-05", "2023-06-16")  # open in New York, Tokyo and London, all of them
YEAR = Span.of_dates(date(2023, 1, 1), date(2023, 12, 31))


def put(store, name, times, opens, closes=None):
    """Store bars of a series."""
    moments = [pd.Timestamp(time).to_pydatetime().replace(tzinfo=UTC) for time in times]
    pairs = zip(moments, opens, opens if closes is None else closes, strict=True)
    rows = [(time, first, max(first, last), min(first, last), last, 1e6, None, None) for time, first, last in pairs]
    store.write(Series.parse(name), YEAR, table_of(rows))


def walk(level, count, seed, size=0.01):
    return np.round(level * np.cumprod(1 + np.random.default_rng(seed).normal(0, size, count)), 4).tolist()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Ten days of three stocks, and of the currencies from a week before; nobody writes there."""
    made, rates = Store(tmp_path_factory.mktemp("currencies") / "bars"), pd.bdate_range("2023-05-29", "2023-06-16")
    for number, (name, level) in enumerate(((APPLE, 180), (TOYOTA, 2000), (VODAFONE, 75))):
        put(made, name, DAYS, walk(level, 10, number), walk(level, 10, number + 10))
    for number, (name, level) in enumerate(((EURUSD, 1.08), (USDJPY, 140), (EURGBP, 0.86))):
        put(made, name, rates, walk(level, len(rates), number + 20, 0.005))
    return made


SIZES = {APPLE: 10, TOYOTA: 100, VODAFONE: 1000}


@pytest.fixture
def own_store(store, tmp_path):
    """Return a copy of it, to write to."""
    return Store(shutil.copytree(store.root, tmp_path / "own"))


class HoldsAll(bt.Strategy):
    """Buys of each series at the first bar and sells at the eighth."""

    params = (("sizes", SIZES),)

    def next(self):
        for data in self.datas:
            if len(self) == 1:
                self.buy(data=data, size=self.p.sizes.get(data._name, 10))
            if len(self) == 8:
                self.close(data=data)


ALL = [APPLE, TOYOTA, VODAFONE]


def run(*words, costs="bp:5", **asked):
    return backtest.run(*words, costs=costs, **asked)


# --- the account


@pytest.mark.slow
def test_a_run_in_euros_is_what_pandas_makes_of_it_bar_by_bar(store):
    result = run(HoldsAll, ALL, store=store, currency="EUR", costs="bp:10")

    known, prices = (
        {},
        {name: store.read(name).to_pandas().set_index("time") for name in (*ALL, EURUSD, USDJPY, EURGBP)},
    )
    for name in (EURUSD, USDJPY, EURGBP):  # each close counts from 17:00 in New York, which was 21:00 UTC
        closes = prices[name]["close"]
        known[name] = closes.set_axis(closes.index.tz_convert(None) + timedelta(hours=21))
    euro, dollar, pound = (known[name] for name in (EURUSD, USDJPY, EURGBP))
    opened = {APPLE: timedelta(hours=13, minutes=30), TOYOTA: timedelta(), VODAFONE: timedelta(hours=7)}
    held = pd.Series([0] + [1] * 7 + [0] * 2, DAYS)  # from the second bar to the end of the eighth
    cash, worth = pd.Series(100_000.0, DAYS), pd.Series(0.0, DAYS)
    for name, size in SIZES.items():
        bars = prices[name].set_axis(DAYS)

        def in_euros(moments, name=name):
            if name == APPLE:
                return 1 / known_at(euro, moments).to_numpy()
            if name == TOYOTA:
                return 1 / known_at(dollar, moments).to_numpy() / known_at(euro, moments).to_numpy()
            return 0.01 / known_at(pound, moments).to_numpy()

        bought, sold = DAYS[1], DAYS[8]
        for day, sign in ((bought, 1), (sold, -1)):
            value = size * bars["open"][day] * in_euros(pd.DatetimeIndex([day + opened[name]]))[0]
            cash[day <= DAYS] -= sign * value + value * 0.001
        worth += held * size * bars["close"] * in_euros(DAYS + timedelta(hours=20))  # New York's close, the last
    assert result.currency == "EUR"
    assert np.abs(result.equity.to_numpy() / (cash + worth).to_numpy() - 1).max() < 1e-9
    assert np.abs(result.record["cash"].to_numpy() / cash.to_numpy() - 1).max() < 1e-9


@pytest.mark.slow
def test_permuted_series_give_the_same_equity(store):
    first, other = (run(HoldsAll, names, store=store, currency="EUR") for names in (ALL, [VODAFONE, APPLE, TOYOTA]))

    assert np.abs(first.equity.to_numpy() / other.equity.to_numpy() - 1).max() < 1e-12


def test_inverse_and_cross_pairs_give_the_same_equity(store, tmp_path):
    inverse = Store(tmp_path / "inverse")
    for name in ALL:
        inverse.write(Series.parse(name), YEAR, store.read(name))
    for name, other in (
        (EURUSD, "USD-CASH-IDEALPRO-EUR"),
        (USDJPY, "JPY-CASH-IDEALPRO-USD"),
        (EURGBP, "GBP-CASH-IDEALPRO-EUR"),
    ):
        bars = store.read(name).to_pandas()
        put(inverse, f"{other}/1day/MIDPOINT", bars["time"].dt.tz_localize(None), (1 / bars["close"]).tolist())

    first, second = (run(HoldsAll, ALL, store=one, currency="EUR") for one in (store, inverse))

    assert np.abs(first.equity.to_numpy() / second.equity.to_numpy() - 1).max() < 1e-12
    assert {leg["inverse"] for legs in second.manifest["currencies"]["rates"].values() for leg in legs} == {False}


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 30))])
def test_equity_is_that_of_a_ledger_at_every_bar(seed, tmp_path):
    assert max(map(abs, differences(drawn(seed), tmp_path))) <= 1e-9


def test_the_ledger_tells_a_rate_that_is_a_day_late(tmp_path):
    case = drawn(0)
    for name, frame in case.pairs.items():
        case.pairs[name] = frame.assign(known=frame["known"] + timedelta(days=1))

    assert max(map(abs, differences(case, tmp_path))) > 1e-9


# --- when a rate is known


@pytest.mark.parametrize(("size", "hours"), [("1day", [0]), ("1hour", range(24))])
def test_a_jump_after_tokyos_close_counts_from_the_next_opening(tmp_path, size, hours):
    made, jump = Store(tmp_path), pd.Timestamp("2023-06-08 10:00")  # Tokyo closes at 6:00 UTC
    put(made, TOYOTA, DAYS, [2000.0] * 10)
    times = [day + timedelta(hours=hour) for day in pd.bdate_range("2023-05-29", "2023-06-16") for hour in hours]
    ends = timedelta(hours=21 if size == "1day" else 1)  # New York closes the day at 17:00
    put(
        made,
        f"USD-CASH-IDEALPRO-JPY/{size}/MIDPOINT",
        times,
        [140.0 if time + ends <= jump else 100.0 for time in times],
    )

    result = run(HoldsAll, TOYOTA, store=made, currency="USD", costs="none")

    held = result.equity.to_numpy()
    assert held[:4] == pytest.approx([100_000] * 4)  # up to the eighth of June, the day of the jump
    assert held[4:] == pytest.approx([100_000 - 200_000 / 140 + 200_000 / 100] * 6)


def test_an_order_at_the_close_is_converted_at_the_rate_of_that_close(tmp_path):
    made = Store(tmp_path)
    put(made, TOYOTA, DAYS, [2000.0] * 10)
    rates = pd.bdate_range("2023-05-29", "2023-06-16")
    put(made, USDJPY, rates, [100.0 + number for number in range(len(rates))])

    next_bar, this_close = (run(HoldsAll, TOYOTA, store=made, currency="USD", costs="none", fills=one)
                            for one in ("next-bar", "this-close"))  # fmt: skip

    # On 5 June the rate of Friday, the fifth, is known; its own from 21:00 UTC on.
    assert this_close.fills["rate"].iloc[0] == pytest.approx(1 / 104)
    assert next_bar.fills["rate"].iloc[0] == pytest.approx(1 / 105)
    assert this_close.record["cash"][0].as_py() == pytest.approx(100_000 - 200_000 / 104)
    assert this_close.equity.iloc[0] == pytest.approx(100_000)


# --- without rates


def test_without_rates_a_run_is_refused_and_says_what_to_download(tmp_path, store):
    bare = Store(tmp_path / "bare")
    for name in ALL:
        bare.write(Series.parse(name), YEAR, store.read(name))

    with pytest.raises(
        NoBars, match=r"money in GBP cannot be converted to EUR.* EUR-CASH-IDEALPRO-GBP/1day --since 2023-05-"
    ):
        run(HoldsAll, ALL, store=bare, currency="EUR")
    with pytest.raises(NoBars, match=r"download USD-CASH-IDEALPRO-JPY/1day --since 2023-05-\d\d --until 2023-06-16"):
        run(HoldsAll, [APPLE, TOYOTA], store=bare)


def test_rates_that_end_before_the_run_are_none(store, tmp_path):
    short = Store(tmp_path / "short")
    for name in (APPLE, TOYOTA):
        short.write(Series.parse(name), YEAR, store.read(name))
    put(short, USDJPY, pd.bdate_range("2023-05-22", "2023-05-31"), [140.0] * 8)

    with pytest.raises(NoBars, match=r"USD-CASH-IDEALPRO-JPY/1day has no rate for 2023-06-09 00:00 UTC"):
        run(HoldsAll, [APPLE, TOYOTA], store=short)


def test_money_that_has_no_currency_is_refused(store):
    frame = pd.DataFrame({"open": 10.0, "high": 10.0, "low": 10.0, "close": 10.0, "volume": 1.0}, index=DAYS)

    with pytest.raises(UsageError, match="XXX stands for no currency"):
        run(HoldsAll, frame, currency="EUR")
    assert run(HoldsAll, frame, costs="none").currency == "without a currency"


# --- which currency


def test_the_base_is_what_is_asked_for_or_what_all_have_or_dollars(store):
    assert run(HoldsAll, TOYOTA, store=store).currency == "JPY"
    assert run(HoldsAll, [TOYOTA, APPLE], store=store).currency == "USD"
    assert run(HoldsAll, [VODAFONE, TOYOTA], store=store).currency == "GBP"
    assert run(HoldsAll, APPLE, store=store, currency="eur").currency == "EUR"
    with pytest.raises(UsageError, match="currency is 'GBX'; write GBP"):
        run(HoldsAll, VODAFONE, store=store, currency="GBX")


def test_one_currency_needs_no_rates_and_keeps_no_more_than_before(store):
    result = run(HoldsAll, APPLE, store=store)

    assert "currencies" not in result.manifest
    assert {"rate.0", "rate"}.isdisjoint({*result.record.column_names, *result.fills_table.column_names})


def test_the_summary_says_how_money_was_converted(store):
    basis = run(HoldsAll, ALL, store=store, currency="EUR", costs="none").stats.basis

    assert "account in EUR" in basis
    assert (
        "GBP and JPY and USD converted to EUR at once, at the last known close of EUR-CASH-IDEALPRO-GBP/1day and"
        in basis
    )
    assert "prices of VOD-STK-LSE-GBP/1day in GBX, a hundredth of GBP" in basis


# --- pence


def test_shares_at_london_are_in_pence(store):
    result = run(HoldsAll, VODAFONE, store=store, costs="none", params={"sizes": {VODAFONE: 1000}})

    opened = store.read(VODAFONE)["open"].to_pylist()
    assert result.currency == "GBP"
    assert result.record["cash"][1].as_py() == pytest.approx(100_000 - 10 * opened[1])
    assert result.trades["currency"].tolist() == ["GBX"]
    assert result.trades["gross"].iloc[0] == pytest.approx(10 * (opened[8] - opened[1]))


def test_a_rule_says_what_a_series_is_quoted_in(store):
    pounds = run(HoldsAll, VODAFONE, store=store, costs="none", quoted_in=f"{VODAFONE}=GBP")

    opened = store.read(VODAFONE)["open"].to_pylist()
    assert pounds.record["cash"][1].as_py() == pytest.approx(100_000 - 1000 * opened[1])
    with pytest.raises(UsageError, match="is quoted in GBP, and not in USD"):
        run(HoldsAll, VODAFONE, store=store, quoted_in=f"{VODAFONE}=USD")


def test_a_fund_that_may_be_quoted_in_pounds_or_pence_is_refused(own_store):
    put(own_store, "VUSA-STK-LSEETF-GBP/1day", DAYS, [70.0] * 10)

    with pytest.raises(UsageError, match="VUSA-STK-LSEETF-GBP are GBP or a hundredth of it is not known"):
        run(HoldsAll, "VUSA-STK-LSEETF-GBP/1day", store=own_store, costs="none")


# --- cash by currency


class BuysAgain(bt.Strategy):
    """Buys, sells all, and buys half of it again."""

    def next(self):
        orders = {1: self.buy, 3: self.sell, 6: self.buy}
        if len(self) in orders:
            orders[len(self)](size=50 if len(self) == 6 else 100)


def test_cash_stays_in_its_currency_and_what_lacks_is_converted(tmp_path):
    made = Store(tmp_path)
    put(made, TOYOTA, DAYS, [2000.0] * 3 + [2100.0] * 7)
    put(
        made, USDJPY, pd.bdate_range("2023-05-29", "2023-06-16"), [100.0] * 10 + [125.0] * 5
    )  # 125 from 12 June's evening

    result = run(BuysAgain, TOYOTA, store=made, currency="USD", costs="none", conversion="ib-forex")

    # 200,000 yen are bought for 2,000 dollars, at IB's minimum of 2; 210,000 come back and stay; 105,000 are spent.
    yen, cash, equity = (result.record[name].to_pylist() for name in ("cash.0", "cash", "equity"))
    assert yen == pytest.approx([0, 0, 0, 210_000, 210_000, 210_000, 105_000, 105_000, 105_000, 105_000])
    assert result.fills["costs"].tolist() == pytest.approx([2, 0, 0])
    assert cash[1:5] == pytest.approx([97_998, 97_998, 97_998 + 2100, 97_998 + 2100])
    assert cash[5:] == pytest.approx([97_998 + 2100] + [97_998 + 105_000 / 125] * 4)
    assert equity[5:] == pytest.approx([97_998 + 2100] + [97_998 + 210_000 / 125] * 4)


def test_a_large_conversion_costs_a_fifth_of_a_basis_point(tmp_path):
    made = Store(tmp_path)
    put(made, TOYOTA, DAYS, [2000.0] * 10)
    put(made, USDJPY, pd.bdate_range("2023-05-29", "2023-06-16"), [100.0] * 15)
    sizes = {"sizes": {TOYOTA: 50_000}}

    result = run(
        HoldsAll, TOYOTA, store=made, currency="USD", costs="none", conversion="ib-forex", cash=2e6, params=sizes
    )

    assert result.fills["costs"].tolist() == pytest.approx([20, 0])  # of a million dollars
    assert result.equity.iloc[-1] == pytest.approx(2e6 - 20)


def test_cash_by_currency_is_what_a_ledger_of_balances_says(store):
    result = run(Turning, ALL, store=store, currency="EUR", costs="bp:5", conversion="ib-forex")

    record, fills = result.record.to_pandas(), result.fills
    own, held = 100_000.0, {"USD": 0.0, "JPY": 0.0, "GBP": 0.0}
    names = {APPLE: ("USD", 0, 1.0), TOYOTA: ("JPY", 1, 1.0), VODAFONE: ("GBP", 2, 0.01)}
    converted = 0
    for row, time in enumerate(record["time"]):
        for fill in fills[fills["time"] == time].to_dict("records"):
            currency, _, unit = names[fill["series"]]
            rate = fill["rate"] / unit
            value = fill["size"] * fill["price"] * unit
            commission = abs(value) * 0.0005
            fees = fill["costs"] - commission * rate
            assert fees >= -1e-9
            left = held[currency] - value - commission
            converted += left < 0
            assert (fees > 1) == (left < 0)  # two dollars at the least, where something lacks
            own += min(left, 0) * rate - fees
            held[currency] = max(left, 0.0)
        for currency, n, _ in names.values():
            assert record[f"cash.{n}"][row] == pytest.approx(held[currency])
        worth = sum(held[one] * record[f"rate.{n}"][row] / unit for one, n, unit in names.values())
        assert record["cash"][row] == pytest.approx(own + worth, rel=1e-9)
    assert converted > 1


def test_orders_at_the_close_are_not_filled_from_cash_by_currency(store):
    class AtTheClose(bt.Strategy):
        def next(self):
            if len(self) == 1:
                self.buy(exectype=bt.Order.Close)

    with pytest.raises(UsageError, match="while cash is held in each currency"):
        run(HoldsAll, TOYOTA, store=store, currency="USD", conversion="ib-forex", fills="this-close")
    with pytest.raises(UsageError, match="leave out --conversion"):
        run(AtTheClose, TOYOTA, store=store, currency="USD", conversion="ib-forex")


def test_the_summary_says_that_cash_is_held_by_currency(store):
    result = run(HoldsAll, TOYOTA, store=store, currency="USD", conversion="ib-forex")

    assert "conversion ib-forex" in result.stats.basis
    assert "JPY converted to USD where an order lacks cash of its currency" in result.stats.basis


def test_a_strategy_that_sets_a_commission_of_its_own_by_name_is_refused(store):
    class Sets(bt.Strategy):
        def start(self):
            self.broker.setcommission(commission=0.001, name=TOYOTA)

    with pytest.raises(UsageError, match="Sets sets a commission of its own for 7203-STK-TSEJ-JPY/1day"):
        run(Sets, TOYOTA, store=store, currency="EUR")
    assert run(Sets, TOYOTA, store=store).currency == "JPY"


def test_a_point_of_corn_is_worth_its_multiplier_of_cents(tmp_path):
    made, corn = Store(tmp_path), "ZC-FUT-CBOT-USD-202406/1day"
    rows = [(day.to_pydatetime().replace(tzinfo=UTC), price, price, price, price, 1.0, None, None)
            for day, price in zip(DAYS, [450.0, 450.0, *[460.0] * 8], strict=True)]  # fmt: skip
    contract = ContractDetails(con_id=7, multiplier="5000", price_magnifier="100")
    made.write(Series.parse(corn), YEAR, table_of(rows), contract=contract)

    result = run(HoldsAll, corn, store=made, costs="none", margin="1000")

    assert result.equity.iloc[2] == pytest.approx(100_000 + 10 * 10 * 50)  # ten contracts, ten cents, 5,000 bushels
    assert result.trades["gross"].tolist() == pytest.approx([5000])
    assert "prices of ZC-FUT-CBOT-USD-202406/1day in 1/100 USD" in result.stats.basis


# --- dividends


def test_a_dividend_is_converted_at_the_rate_known_when_its_bar_opened(store, tmp_path):
    file = tmp_path / "paid.csv"
    file.write_text(
        "date,amount,currency,series\n2023-06-08,30,JPY,7203-STK-TSEJ-JPY\n2023-06-09,0.05,GBP,VOD-STK-LSE-GBP\n"
    )

    plain, paid = (run(HoldsAll, [TOYOTA, VODAFONE], store=store, currency="EUR", costs="none", **more)
                   for more in ({}, {"dividends": str(file)}))  # fmt: skip

    got = paid.record["cash"].to_numpy() - plain.record["cash"].to_numpy()
    yen = paid.record["rate.0"][3].as_py()  # of 8 June, as at its opening: that of 7 June's evening
    pound = paid.record["rate.1"][4].as_py() * 100  # the file is in pounds, prices in pence
    assert got[[2, 3]] == pytest.approx([0, 100 * 30 * yen])
    assert got[4] == pytest.approx(100 * 30 * yen + 1000 * 0.05 * pound)
    assert paid.trades["net"].sum() == pytest.approx(paid.equity.iloc[-1] - 100_000)
    worth = (paid.trades["size"] * paid.trades["entry_price"] * paid.trades["entry_rate"]).abs()
    assert paid.trades["return"].to_numpy() == pytest.approx((paid.trades["net"] / worth).to_numpy())


def test_dividends_of_a_benchmark_are_converted(store, tmp_path):
    file = tmp_path / "paid.csv"
    file.write_text("date,amount,currency,series\n2023-06-08,30,JPY,7203-STK-TSEJ-JPY\n")

    result = run(HoldsAll, APPLE, store=store, currency="EUR", costs="none", benchmark=TOYOTA, dividends=str(file))

    paid, benchmark = (result.record[name].to_numpy() for name in ("dividend.benchmark", "benchmark"))
    toyota = store.read(TOYOTA)["close"].to_numpy()
    assert paid[3] == pytest.approx(30 * benchmark[3] / toyota[3])
    assert paid.sum() == paid[3]


# --- what IB says of a contract


@pytest.mark.parametrize(
    ("spelled", "stored", "magnifier"),
    [
        ("VOD-STK-LSE-GBP", "", "100"),
        ("VUSA-STK-LSEETF-GBP", "1", "1"),
        ("EQQQ-STK-LSEETF-GBP", "100", "100"),
        ("AAPL", "", ""),
        ("ZC-FUT-CBOT-USD-202406", "100", "100"),  # corn, in cents
    ],
)
def test_a_download_keeps_how_many_units_of_price_are_one_of_the_currency(tmp_path, spelled, stored, magnifier):
    made, series = Store(tmp_path), Series.parse(f"{spelled}/1day")
    rows = [(datetime(2024, 1, 2, tzinfo=UTC), 10.0, 10.0, 10.0, 10.0, 1.0, None, None)]
    contract = ContractDetails(con_id=7, price_magnifier=stored)
    made.write(series, Span.of_dates(date(2024, 1, 1), date(2024, 1, 5)), table_of(rows), contract=contract)

    with backtest.connect(f"emulator:{tmp_path}") as source:
        assert source.qualify(series.instrument).price_magnifier == magnifier


def test_what_ib_says_of_a_fund_is_known_to_a_run(own_store):
    fund = "VUSA-STK-LSEETF-GBP/1day"
    rows = [(day.to_pydatetime().replace(tzinfo=UTC), 70.0, 70.0, 70.0, 70.0, 1.0, None, None) for day in DAYS]
    own_store.write(Series.parse(fund), YEAR, table_of(rows), contract=ContractDetails(price_magnifier="1"))

    assert run(HoldsAll, fund, store=own_store, costs="none").record["cash"][1].as_py() == 100_000 - 10 * 70


# --- numbers


def test_round_trips_and_costs_are_in_the_currency_of_the_account(store):
    result = run(HoldsAll, [APPLE, TOYOTA], store=store, currency="EUR", costs="bp:10")

    fills, trades = result.fills, result.trades
    assert fills["costs"].to_numpy() == pytest.approx(
        (fills["size"].abs() * fills["price"] * fills["rate"] * 0.001).to_numpy()
    )
    assert trades["net"].sum() == pytest.approx(result.equity.iloc[-1] - 100_000)
    assert trades["currency"].tolist() == ["USD", "JPY"]


def test_minimums_are_in_the_currency_of_the_product(store):
    result = run(HoldsAll, APPLE, store=store, currency="EUR", costs="ib-fixed")

    assert (result.fills["costs"] / result.fills["rate"]).tolist() == pytest.approx([1.0, 1.0])  # US dollars


def test_buy_and_hold_and_a_benchmark_are_converted(store):
    plain = run(HoldsAll, APPLE, store=store, currency="EUR", costs="none")
    beside = run(HoldsAll, APPLE, store=store, currency="EUR", costs="none", benchmark=TOYOTA)

    rate, close = (plain.record[name].to_numpy() for name in ("rate.0", "close.0"))
    from backtest.metrics.account import hold

    assert hold(plain) == pytest.approx(100_000 * (close * rate) / (close[0] * rate[0]))
    yen = 1 / (store.read(USDJPY)["close"].to_numpy() * store.read(EURUSD)["close"].to_numpy())
    toyota = store.read(TOYOTA)["close"].to_numpy()
    assert beside.record["benchmark"].to_numpy() == pytest.approx(toyota * yen[4:14])  # of the business day before


def test_a_percent_of_the_account_is_one_of_its_currency(store):
    class Fully(bt.Strategy):
        def next(self):
            if len(self) == 1:
                self.order_target_percent(target=0.5)

    result = run(Fully, TOYOTA, store=store, currency="EUR", costs="none")
    sized = run(HoldsFully, TOYOTA, store=store, currency="EUR", costs="none", size="percent:50")

    close, rate = result.record["close.0"][0].as_py(), result.record["rate.0"][0].as_py()
    assert result.positions.iloc[1, 0] == 50_000 // (close * rate)
    assert sized.positions.iloc[1, 0] == result.positions.iloc[1, 0]


class HoldsFully(bt.Strategy):
    """Buys what its sizer says."""

    def next(self):
        if not self.position:
            self.buy()


def test_an_order_that_the_account_cannot_pay_is_refused_in_its_currency(store):
    paid = run(HoldsAll, TOYOTA, store=store, currency="EUR", costs="none", cash=1500, params={"sizes": {TOYOTA: 100}})
    refused = run(
        HoldsAll, TOYOTA, store=store, currency="EUR", costs="none", cash=1000, params={"sizes": {TOYOTA: 100}}
    )

    assert paid.orders["status"].iloc[0] == "Completed"  # about 200,000 yen, or 1,320 euros
    assert refused.orders["status"].iloc[0] == "Margin"


def test_runs_in_different_currencies_are_not_compared(store):
    runs = [run(HoldsAll, APPLE, store=store, currency=one) for one in ("EUR", "USD")]

    with pytest.raises(UsageError, match=r"different currencies \(EUR, USD\)"):
        compare(runs)
    euros = [runs[0], run(HoldsAll, APPLE, store=store, currency="EUR", costs="none")]
    assert "The accounts are in EUR." in compare(euros, samples=10).basis


# --- the rest of the package


def test_a_kept_run_is_measured_as_it_was(store, tmp_path):
    result = run(HoldsAll, ALL, store=store, currency="EUR")

    loaded = backtest.RunResult.load(result.save(tmp_path / "kept"))

    assert loaded.currency == "EUR"
    assert loaded.stats.basis == result.stats.basis
    assert dict(loaded.stats) == pytest.approx(dict(result.stats), nan_ok=True)


def test_a_run_of_before_says_that_its_amounts_were_added_as_they_were(store):
    result = run(HoldsAll, [TOYOTA, APPLE], store=store, benchmark=VODAFONE)
    before = {name: told for name, told in result.manifest.items() if name != "currencies"}

    old = replace(result, manifest=before)

    assert old.currency == "JPY"
    assert "amounts in JPY and USD and GBP added as they are, not converted" in measure(old).basis


def test_pins_cover_the_rates(store, tmp_path):
    file = tmp_path / "data.lock"
    pin(store, file, [Series.parse(name) for name in (APPLE, TOYOTA)])

    with pytest.raises(BrokenPin, match="USD-CASH-IDEALPRO-JPY/1day is not pinned"):
        run(HoldsAll, [APPLE, TOYOTA], store=store, pins=file)
    pin(store, file, [Series.parse(USDJPY)])
    assert run(HoldsAll, [APPLE, TOYOTA], store=store, pins=file).currency == "USD"


def test_a_baseline_names_changed_rates_as_the_cause(store, tmp_path):
    asked = {"costs": "none", "lines": False}
    old = Baseline.of(run(HoldsAll, [APPLE, TOYOTA], store=store, **asked))
    bars = store.read(USDJPY).to_pandas()
    other = Store(tmp_path / "other")
    for name in (APPLE, TOYOTA):
        other.write(Series.parse(name), YEAR, store.read(name))
    put(other, USDJPY, bars["time"].dt.tz_localize(None), (bars["close"] * 1.1).tolist())
    result = run(HoldsAll, [APPLE, TOYOTA], store=other, **asked)

    causes = explain(old, Baseline.of(result), Scene(result.spec, other, HoldsAll))

    assert causes[0].what == "data"
    assert any("USD-CASH-IDEALPRO-JPY/1day" in line for line in causes[0].told)


def test_a_finer_pair_that_was_added_is_named_and_put_back(own_store):
    asked = {"costs": "none", "lines": False}
    old = Baseline.of(run(HoldsAll, [APPLE, TOYOTA], store=own_store, **asked))
    hours = [day + timedelta(hours=hour) for day in pd.bdate_range("2023-05-29", "2023-06-16") for hour in range(21)]
    put(own_store, "USD-CASH-IDEALPRO-JPY/1hour/MIDPOINT", hours, walk(150, len(hours), 5))
    result = run(HoldsAll, [APPLE, TOYOTA], store=own_store, **asked)

    causes = explain(old, Baseline.of(result), Scene(result.spec, own_store, HoldsAll))

    assert (causes[0].what, causes[0].verdict) == ("rates", CAUSE)
    assert causes[0].told == ("USD-CASH-IDEALPRO-JPY/1day -> USD-CASH-IDEALPRO-JPY/1hour",)


@pytest.mark.slow
def test_a_sweep_and_the_look_ahead_check_take_several_currencies(store, tmp_path):
    class Swept(bt.Strategy):
        params = (("at", 1),)

        def next(self):
            if len(self) == self.p.at:
                for data in self.datas:
                    self.buy(data=data, size=10)

    found = sweep(
        Swept, [APPLE, TOYOTA], {"at": [1, 2, 3]}, store=store, folder=tmp_path / "sweep", currency="EUR", costs="bp:5"
    )

    single = run(Swept, [APPLE, TOYOTA], store=store, params=found.best.params, currency="EUR")
    assert found.best.metrics["total_return"] == single.stats["total_return"]
    assert look_ahead(Swept, [APPLE, TOYOTA], store=store, currency="EUR", costs="bp:5", cuts=4) == []


# --- the loops


class Turning(bt.Strategy):
    """Turns its positions, looks at the account at each bar and asks for a size by it."""

    def __init__(self):
        self.seen = []

    def next(self):
        self.seen.append((self.broker.getvalue(), self.broker.getcash(), self.broker.getvalue([self.datas[-1]])))
        for number, data in enumerate(self.datas):
            if len(self) % (number + 2) == 0:
                self.order_target_percent(data=data, target=0.3 * (-1) ** (len(self) // (number + 2)))


class Unusual(Turning):
    """The same, in Backtrader's own loop."""

    def _notify(self, *args, **kwargs):
        super()._notify(*args, **kwargs)


@pytest.mark.parametrize(
    "options", [{}, {"borrow": "0.05"}, {"cash_rate": 0.03}, {"fills": "this-close"}, {"conversion": "ib-forex"}]
)
def test_the_lean_loop_and_backtraders_give_the_same_to_the_last_bit(store, options):
    lean, plain = (run(one, ALL, store=store, currency="EUR", costs="bp:7", **options) for one in (Turning, Unusual))

    assert lean.record.equals(plain.record)
    assert lean.fills_table.equals(plain.fills_table)
    assert lean.trades_table.equals(plain.trades_table)
