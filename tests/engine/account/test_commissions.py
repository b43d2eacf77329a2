"""What trading costs: IB's own worked examples to the cent, fees by their dates, borrowed shares and idle cash."""

import hashlib
import json
from datetime import UTC, date, datetime, timedelta

import backtrader as bt
import pytest

from backtest.api import run
from backtest.engine.account.borrowing import Borrowing
from backtest.engine.account.commissions import COSTS, MonthlyVolume, costs_named, model_for, tiered
from backtest.engine.account.fees import SEC_FEE, regulatory_fees
from backtest.errors import UsageError
from backtest.market.bars import table_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.metrics.account import sample as account
from backtest.store.store import Store

AAPL = Series.parse("AAPL/1day")
DAY_2023 = date(2023, 6, 1).toordinal()  # when IB's comparison of fixed and tiered was reckoned: SEC 8.00, TAF 7.27


class On:
    """Stands for a feed whose present bar is of a day."""

    def __init__(self, day):
        self.datetime = [day + 0.99]


def charged(name, size, price, day=DAY_2023):
    return model_for(COSTS[name], On(day), MonthlyVolume()).getcommission(size, price)


@pytest.mark.parametrize(
    ("shares", "price", "costs"),
    [
        (100, 25.0, 1.00),
        (1000, 25.0, 5.00),
        (1000, 0.25, 2.50),
        (10, 0.20, 0.02),
    ],  # the last: the cap beats the minimum
)
def test_ib_fixed_as_in_its_examples(shares, price, costs):
    assert round(charged("ib-fixed", shares, price), 2) == costs


@pytest.mark.parametrize(
    ("shares", "fixed", "tiers"),
    [
        # "Sell 200,000 Island NASDAQ shares @ $5, remove liquidity": 700 + 600 + 40 + 8.00 + 0.39 + 0.12 + 7.27
        (200_000, 1_015.27, 1_355.78),
        # 30,000,000: 1,050 + 5,400 + 25,500 + 10,000 by tiers, + 90,000 + 6,000 + 1,200 + 23.49 + 7.34 + 7.27
        (30_000_000, 151_207.27, 139_188.10),
    ],
)
def test_ib_tiered_as_in_its_comparison_with_fixed(shares, fixed, tiers):
    assert round(charged("ib-fixed-fees", -shares, 5.0), 2) == fixed
    assert round(charged("ib-tiered", -shares, 5.0), 2) == tiers


def test_ib_tiered_has_a_minimum_which_the_cap_beats():
    others = 100 * (0.003 + 0.0002)  # exchange and clearing
    passed = 1 + 0.000175 + 0.00056

    assert charged("ib-tiered", 50, 100.0) == pytest.approx(0.35 * passed + others / 2)
    assert charged("ib-tiered", 10, 0.20) == pytest.approx(0.02 * passed + 2.0 * 0.003 + 0.002)


def test_a_month_of_many_shares_gets_cheaper_and_the_next_begins_anew():
    assert tiered(0, 300_000) == pytest.approx(1050)
    assert tiered(299_000, 2_000) == pytest.approx(1_000 * 0.0035 + 1_000 * 0.002)
    model = model_for(COSTS["ib-tiered"], On(DAY_2023), traded := MonthlyVolume())

    dear = model.getcommission(100_000, 50.0)
    model.confirmexec(400_000, 50.0)
    cheap = model.getcommission(100_000, 50.0)
    model.data = On(DAY_2023 + 30)

    assert traded.shares == 400_000
    assert dear - cheap == pytest.approx(100_000 * (0.0035 - 0.002) * (1 + 0.000175 + 0.00056))
    assert model.getcommission(100_000, 50.0) == dear


@pytest.mark.parametrize(
    ("value", "day", "fee"),
    [
        (1_000_000, date(2001, 12, 27), 33.30),
        (1_000_000, date(2001, 12, 28), 15.00),
        (1_000_000, date(2014, 3, 17), 17.40),
        (1_000_000, date(2014, 3, 18), 22.10),
        (1_000_000, date(2018, 5, 22), 13.00),
        (1_000_000, date(2025, 5, 14), 0.00),
        (1_000_000, date(2026, 4, 3), 0.00),
        (1_000_000, date(2026, 4, 4), 20.60),
    ],
)
def test_the_fee_of_the_sec_is_that_of_the_day(value, day, fee):
    assert value / 1e6 * SEC_FEE.on(day.toordinal()) == fee


@pytest.mark.parametrize(
    ("day", "a_share", "most"),
    [
        (date(2012, 2, 29), 0.000090, 4.50),
        (date(2012, 3, 1), 0.000095, 4.75),
        (date(2012, 6, 29), 0.000095, 4.75),
        (date(2012, 7, 2), 0.000119, 5.95),
        (date(2025, 12, 31), 0.000166, 8.30),
        (date(2026, 1, 2), 0.000195, 9.79),
    ],
)
def test_the_trading_activity_fee_is_that_of_the_day(day, a_share, most):
    sec = SEC_FEE.on(day.toordinal()) / 1e6

    assert regulatory_fees(-1_000, 10.0, day.toordinal()) == pytest.approx(10_000 * sec + 1_000 * a_share)
    assert regulatory_fees(-1_000_000, 10.0, day.toordinal()) == pytest.approx(1e7 * sec + most)


def test_only_sales_bear_regulatory_fees_and_the_activity_fee_has_a_most():
    day = date(2024, 6, 3).toordinal()

    assert regulatory_fees(100, 50.0, day) == 0
    assert regulatory_fees(-100, 50.0, day) == pytest.approx(5_000 * 27.8e-6 + 100 * 0.000166)
    assert regulatory_fees(-1_000_000, 1.0, day) == pytest.approx(27.8 + 8.30)


def test_ib_forex_and_basis_points():
    assert charged("ib-forex", 50_000, 1.0) == 2.00  # IB's example
    assert charged("ib-forex", 1_250_000_000, 1.0) == pytest.approx(25_000)  # of one order in the first tier
    assert costs_named("bp:5").make().getcommission(100, 50.0) == pytest.approx(2.50)


@pytest.mark.parametrize("text", ["free", "bp:", "bp:x", "bp:-1", "futures:2.25", "futures:2.25:0:100", "bp:1:2"])
def test_costs_that_nobody_knows_are_refused_with_those_there_are(text):
    with pytest.raises(UsageError, match=r"ib-tiered|bp:5"):
        costs_named(text)


# --- in runs


class Steps(bt.Strategy):
    """Give orders at the bars that are named, such as "1:100 3:-100": the number of the bar, and the size."""

    params = (("at", ""),)

    def next(self):
        steps = dict(map(int, step.split(":")) for step in self.p.at.split())
        if size := steps.get(len(self), 0):
            (self.buy if size > 0 else self.sell)(size=abs(size))


def store_of(folder, closes, series=AAPL, start=datetime(2024, 1, 2, tzinfo=UTC), volume=1e6):
    """Return a store with a bar a calendar day: each opens and closes at its price."""
    rows = [
        (start + timedelta(days=n), p, p + 1, p - 1, p, volume, None, None) for n, p in enumerate(map(float, closes))
    ]
    store = Store(folder)
    store.write(series, Span(rows[0][0], rows[-1][0] + timedelta(days=1)), table_of(rows))
    return store


def test_a_sale_in_a_run_pays_the_fees_of_its_own_day(tmp_path):
    store = store_of(tmp_path, [100] * 4, start=datetime(2024, 5, 19, tzinfo=UTC))  # the rate changes on the 22nd

    result = run(Steps, "AAPL/1day", store=store, params={"at": "1:400 2:-100 3:-100"}, costs="ib-fixed-fees")

    activity = 100 * 0.000166
    assert result.fills["costs"].tolist() == pytest.approx([2.0, 1 + 0.08 + activity, 1 + 0.278 + activity])


def test_a_future_gains_its_multiplier_a_point_and_binds_its_margin(tmp_path):
    es = Series.parse("ES-FUT-CME-USD-202403/1day")
    store = store_of(tmp_path, [5000, 5010, 5030, 5020], series=es)

    result = run(Steps, str(es), store=store, params={"at": "1:2 3:-2"}, costs="futures:2.25:50:15000")

    # Bought at 5010, sold at 5020: two contracts of 50 a point, and four fees.
    assert result.equity.tolist() == [100_000, 99_995.5, 99_995.5 + 2 * 50 * 20, 100_000 + 1_000 - 9]
    assert result.record["cash"].to_pylist()[1] == 99_995.5 - 30_000
    assert result.trades[["gross", "costs", "net"]].iloc[0].tolist() == [1_000, 9, 991]
    assert account(result).traded == 50 * 2 * (5010 + 5020)


# --- an order is charged as a whole: IB's minimum, and its most, are those of an order of a day

WAYS = {"lean": {}, "by volume": {"volume_cap": 1.0}, "slipping": {"slippage": "money:0"}, "lending": {"borrow": "0"}}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_reversal_pays_one_minimum(tmp_path, way):
    store = store_of(tmp_path, [100] * 5)

    result = run(Steps, "AAPL/1day", store=store, params={"at": "1:50 2:-100 3:350"}, **way)

    # 50 · 0.005 and 100 · 0.005 are less than the minimum; 350 · 0.005
    assert result.fills["costs"].tolist() == pytest.approx([1.0, 1.0, 1.75])
    assert result.equity.iloc[-1] == pytest.approx(100_000 - 3.75)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_closes_and_opens_in_two_orders_pays_two(tmp_path, way):
    store = store_of(tmp_path, [100] * 5)

    class Turns(bt.Strategy):
        def next(self):
            if len(self) == 1:
                self.buy(size=50)
            if len(self) == 2:
                self.close()
                self.sell(size=50)

    result = run(Turns, "AAPL/1day", store=store, **way)

    assert result.fills["costs"].tolist() == pytest.approx([1.0, 1.0, 1.0])


def test_a_reversal_whose_opening_cannot_be_paid_pays_for_what_it_closed(tmp_path):
    store = store_of(tmp_path, [100, 100, 100, 150, 150])

    result = run(Steps, "AAPL/1day", store=store, params={"at": "1:-50 3:700"}, cash=100_000)  # 650 at 150 are more

    assert result.fills["size"].tolist() == [-50, 50]
    assert result.fills["costs"].tolist() == pytest.approx([1.0, 1.0])


def test_an_order_that_fills_in_parts_pays_its_minimum_once_a_day(tmp_path):
    minutes, days = Series.parse("AAPL/1min"), AAPL
    start = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
    rows = [(start + timedelta(minutes=n), 100.0, 101.0, 99.0, 100.0, 100.0, None, None) for n in range(9)]
    store = store_of(tmp_path, [100] * 6, volume=100)
    store.write(minutes, Span(start, start + timedelta(hours=1)), table_of(rows))
    asked = {"store": store, "params": {"at": "1:250"}, "volume_cap": 1.0}

    in_minutes, in_days = (run(Steps, str(one), **asked) for one in (minutes, days))

    # 100, 100 and 50 shares: 1.00, nothing more up to 200 shares, then half a cent each; and each day a minimum
    assert in_minutes.fills["costs"].tolist() == pytest.approx([1.0, 0.0, 0.25])
    assert in_days.fills["costs"].tolist() == pytest.approx([1.0, 1.0, 1.0])


def test_shares_of_an_order_count_once_for_its_tier(tmp_path):
    store = store_of(tmp_path, [100] * 6)

    result = run(Steps, "AAPL/1day", store=store, params={"at": "1:200000 2:-400000"}, costs="ib-tiered", cash=1e9)

    bought, turned = result.fills["costs"]
    own = 100_000 * 0.0035 + 300_000 * 0.002  # 200,000 were traded in the month
    passed = 1 + 0.000175 + 0.00056
    fees = regulatory_fees(-400_000, 100.0, date(2024, 1, 4).toordinal())
    assert bought == pytest.approx(700 * passed + 200_000 * 0.0032)
    assert turned == pytest.approx(own * passed + 400_000 * 0.0032 + fees)


def test_shares_sold_short_cost_their_fee_by_series_and_date(tmp_path):
    store = store_of(tmp_path, [100, 100, 110, 120, 120, 120])
    asked = {"store": store, "params": {"at": "1:-365"}, "costs": "none"}

    dear = run(Steps, "AAPL/1day", **asked, borrow="0.01,AAPL/1day=0.1,AAPL/1day@2024-01-05=0.5")
    free = run(Steps, "AAPL/1day", **asked)

    # Short from the second bar: a day at each close, 10 % a year up to the 4th of January, 50 % from the 5th.
    paid = [0, 0, 10.0, 10.0 + 11.0, 21.0 + 60.0, 81.0 + 60.0]
    assert (free.equity - dear.equity).tolist() == pytest.approx(paid)


def test_a_borrow_fee_of_a_series_that_is_not_in_the_run_is_refused(tmp_path):
    store = store_of(tmp_path, [100, 100, 100])

    with pytest.raises(UsageError, match=r"fee is given for XYZ/1day, which is not in the run; it has AAPL/1day$"):
        run(Steps, "AAPL/1day", store=store, params={"at": "1:-365"}, borrow="0.01,XYZ/1day@2024-01-05=0.3")


def test_what_borrowing_cost_is_booked_by_the_size_that_is_covered(tmp_path):
    store = store_of(tmp_path, [100] * 9)
    at = "1:-365 3:73 5:292 6:-365 7:730"  # short for two days, a fifth less for two, and turned after one

    result = run(Steps, "AAPL/1day", store=store, params={"at": at}, costs="none", borrow="0.1")

    # 10 a day for 365 shares: of 20 a fifth, then the rest and two days of 8; and all of 10 where the position turns
    assert result.fills["costs"].tolist() == pytest.approx([0, 4, 16 + 16, 0, 10])
    assert result.trades["costs"].tolist() == pytest.approx(
        [4, 32, 10]
    )  # of the last fill all, as none is for the long
    assert result.equity.iloc[-1] == pytest.approx(100_000 - 46)


def test_rules_of_borrowing_are_read_and_the_nearest_counts():
    rules = Borrowing.parse(["0.01", "GME/1day@2021-01-25=0.8"])

    assert [rules.rates("GME/1day").on(date(2021, 1, day).toordinal()) for day in (24, 25)] == [0.01, 0.8]
    assert rules.rates("IBM/1day").on(date(2021, 1, 25).toordinal()) == 0.01
    for wrong in ("x", "GME/1day=", "GME/1day@soon=0.1", "GME/1day=-1"):
        with pytest.raises(UsageError, match="borrow fee"):
            Borrowing.parse([wrong])


def test_idle_cash_earns_interest_with_the_bar_after_the_next(tmp_path):
    store = store_of(tmp_path, [100] * 5)

    result = run(Steps, "AAPL/1day", store=store, params={"at": "1:500 2:-700"}, costs="none", cash_rate=0.0365)

    # 0.0001 a day: of 100,000 in the first bar, of 50,000 in the second, later not of what the short sale brought.
    first, second = 10.0, 5.0 + 0.0
    third = (100_000 + first) * 0.0001
    assert result.equity.tolist() == pytest.approx(
        [100_000, 100_000, 100_000 + first, 100_000 + first + second, 100_000 + first + second + third], abs=0.002
    )


def test_costs_and_conditions_are_told_with_the_run(tmp_path):
    store = store_of(tmp_path, [100] * 5)
    asked = {"costs": "ib-tiered", "slippage": "5bp", "volume_cap": 0.1, "borrow": "0.01", "cash_rate": 0.02}

    result = run(Steps, "AAPL/1day", store=store, params={"at": "1:10"}, **asked)

    told = result.manifest["market"]
    assert result.manifest["costs"]["name"] == "ib-tiered"
    assert result.manifest["costs"]["dated"] == "2026-04-04"
    assert (told["slippage"], told["fills"], told["filled_in_their_own_bar"]) == ("5bp", "next-bar", 0)
    assert (
        "costs ib-tiered, slippage 5bp, at most 10 % of a bar's volume, borrow fee 0.01, annual interest"
        in " ".join(repr(result).split())
    )
    assert type(result).load(result.save(tmp_path / "run")).spec == result.spec


def test_the_names_of_runs_stay_while_nothing_new_is_asked_for(tmp_path):
    store = store_of(tmp_path, [100] * 5)
    plain, dear = (run(Steps, "AAPL/1day", store=store, slippage=slippage).spec for slippage in ("", "5bp"))

    # Those that there were at first.
    names = "strategy series since until params cash costs benchmark risk_free sessions_a_year"
    text = json.dumps({name: plain.flat[name] for name in names.split()}, sort_keys=True, indent=1)
    assert plain.key == hashlib.sha256(text.encode()).hexdigest()[:10] != dear.key


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ({"slippage": "much"}, "write 5bp"),
        ({"volume_cap": 2}, "a tenth"),
        ({"volume_cap": 0.1, "fills": "this-close"}, "leave out --volume-cap or --fills"),
        ({"fills": "yesterday"}, "this-close"),
        ({"cash_rate": 3}, "0.02"),
        ({"align": "roughly"}, "forward-fill"),
        ({"size": "all"}, "percent:95"),
    ],
)
def test_a_wrong_word_is_answered_with_a_right_one(tmp_path, asked, hint):
    with pytest.raises(UsageError, match=hint):
        run(Steps, ["AAPL/1day"], store=store_of(tmp_path, [100] * 3), **asked)
