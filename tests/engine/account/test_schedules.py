"""What IB charges by product, worked by hand from the pages that the table names; and runs whose money is unknown."""

from datetime import UTC, datetime, timedelta

import backtrader as bt
import pytest

from backtest import Series, Span, Store, UsageError, ingest, run
from backtest.engine.account.commissions import costs_named, model_for
from backtest.engine.account.schedules import SCHEDULES, costs_for, schedule_of
from backtest.errors import NoBars
from backtest.market.bars import table_of

FIXED = costs_named("ib-fixed")


class RoundTrip(bt.Strategy):
    """Buy at the second bar, sell at the fourth."""

    params = (("size", 100),)

    def next(self):
        if len(self) == 1:
            self.buy(data=self.datas[-1], size=self.p.size)
        if len(self) == 3:
            self.close(data=self.datas[-1])


def charged(name, size, price, costs=FIXED):
    """Return what an order of a size at a price costs."""
    series = Series.parse(f"{name}/1day")
    return model_for(costs_for(costs, series), None, None).getcommission(size, price)


@pytest.mark.parametrize(
    ("name", "size", "price", "costs"),
    [
        ("AAPL", 1_000, 25.0, 5.0),  # IB's example
        ("SAP-STK-IBIS-EUR", 1_000, 20.0, 10.0),  # 0.05 % of 20,000
        ("SAP-STK-SMART-EUR", 100, 40.0, 3.0),  # 2.00, but at least 3
        ("ASML-STK-AEB-EUR", -10, 900.0, 4.5),
        ("700-STK-SEHK-HKD", 100, 400.0, 32.0),  # 0.08 % of 40,000
        ("700-STK-SEHK-HKD", 10, 400.0, 18.0),
        ("600519-STK-SEHKNTL-CNH", 100, 100.0, 15.0),
        ("BHP-STK-ASX-AUD", 400, 50.0, 16.0),  # IB's example
        ("BHP-STK-ASX-AUD", 100, 50.0, 6.0),
        ("RY-STK-TSE-CAD", 1_000, 25.0, 10.0),
        ("RY-STK-TSE-CAD", 50, 25.0, 1.0),
        ("RY-STK-TSE-CAD", 1_000, 0.5, 2.5),  # 0.5 % of 500 is less than a cent a share
        ("EUR-CASH", 50_000, 1.1, 2.0),
        ("EUR-CASH", 1_000_000, 1.1, 22.0),  # 0.2 basis points of 1,100,000
        ("USD-CASH-IDEALPRO-JPY", 20_000, 150.0, 300.0),  # 2 dollars, in yen
        ("USD-CASH-IDEALPRO-JPY", 1_000_000, 150.0, 3_000.0),  # 0.2 basis points of 150,000,000
        ("BTC-CRYPTO-PAXOS-USD", 0.1, 60_000.0, 10.8),  # 0.18 % of 6,000
        ("BTC-CRYPTO-PAXOS-USD", 0.01, 60_000.0, 1.75),
        ("BTC-CRYPTO-PAXOS-USD", 0.001, 60_000.0, 0.6),  # the minimum is at most 1 % of 60
    ],
)
def test_an_order_costs_what_ib_charges_for_its_product(name, size, price, costs):
    assert charged(name, size, price) == pytest.approx(costs)


def test_each_row_says_where_it_is_from_and_how_far_that_is_to_be_trusted():
    standing = {row.about: row.standing for row in SCHEDULES if row.standing != "published"}

    assert all(row.source and row.about and row.definition and row.dated for row in SCHEDULES)
    assert len({row.about for row in SCHEDULES}) == len(SCHEDULES)
    assert standing == {
        "London stocks": "unconfirmed",
        "Swiss stocks": "unconfirmed",
        "Japanese stocks": "unconfirmed",
        "London stocks, tiered": "secondary source",
        "Swiss stocks, tiered": "secondary source",
        "cryptocurrencies in US dollars": "secondary source",
    }


@pytest.mark.parametrize(
    "name", ["VOLV.B-STK-SFB-SEK", "D05-STK-SGX-SGD", "EUR-CASH-IDEALPRO-GBP", "SPX-IND-CBOE-USD", "ENI-STK-BVME-EUR"]
)
def test_a_product_whose_schedule_is_not_known_is_refused_with_those_that_are(name):
    with pytest.raises(UsageError, match=r"is unknown; ib-fixed covers US stocks; .*Canadian stocks.*bp:5"):
        schedule_of(Series.parse(f"{name}/1day").instrument)


def test_a_future_whose_exchange_fee_is_not_known_is_refused_with_those_that_are():
    with pytest.raises(UsageError, match=r"ZC-FUT-CBOT-USD-202612 is unknown; .*CME futures: ES, NQ.*futures:FEE"):
        schedule_of(Series.parse("ZC-FUT-CBOT-USD-202612/1day").instrument)


def test_tiered_pricing_that_nobody_quotes_is_refused_with_those_that_are():
    with pytest.raises(UsageError, match="ib-tiered covers US stocks; stocks in euros"):
        costs_for(costs_named("ib-tiered"), Series.parse("7203-STK-TSEJ-JPY/1day"))


@pytest.mark.parametrize(("costs", "name"), [("ib-fixed-fees", "SAP-STK-IBIS-EUR"), ("ib-fixed-fees", "EUR-CASH")])
def test_costs_of_us_stocks_are_refused_for_all_else(costs, name):
    with pytest.raises(UsageError, match=f"{costs} only covers US stocks"):
        costs_for(costs_named(costs), Series.parse(f"{name}/1day"))


def test_costs_of_currencies_are_refused_for_shares():
    with pytest.raises(UsageError, match="ib-forex only covers currencies, and AAPL/1day is not one"):
        costs_for(costs_named("ib-forex"), Series.parse("AAPL/1day"))


# --- in runs


@pytest.fixture
def store(tmp_path):
    """Return a store with five daily bars of many products."""
    store = Store(tmp_path)
    names = ["AAPL", "SAP-STK-IBIS-EUR", "SIE-STK-IBIS-EUR", "EUR-CASH", "ES-FUT-CME-USD-202403", "SPX-IND-CBOE-USD",
             "7203-STK-TSEJ-JPY",
             "AAPL-CFD-SMART-USD", "AAPL-OPT-SMART-USD-20240315-190-C", "T-BOND-SMART-USD"]  # fmt: skip
    for name in names:
        first = datetime(2024, 1, 2, tzinfo=UTC)
        rows = [(first + timedelta(days=n), 100.0, 101.0, 99.0, 100.0, 1e6, None, None) for n in (0, 1, 2, 6, 7)]
        store.write(Series.parse(f"{name}/1day"), Span(first, first + timedelta(days=8)), table_of(rows))
    return store


def test_a_run_pays_by_its_product_and_keeps_what_that_is(store):
    result = run(RoundTrip, "SAP-STK-IBIS-EUR/1day", store=store)

    (product,) = result.manifest["costs"]["products"].values()
    assert result.fills["costs"].tolist() == [5.0, 5.0]  # 0.05 % of 100 shares of 100 EUR, in euros
    assert "at least 3 EUR" in product["definition"]


def test_a_run_of_us_stocks_keeps_what_it_always_kept(store):
    assert "products" not in run(RoundTrip, "AAPL/1day", store=store).manifest["costs"]


def test_several_currencies_without_their_rates_are_refused(store):
    with pytest.raises(NoBars, match="money in EUR cannot be converted to USD"):
        run(RoundTrip, ["AAPL/1day", "SAP-STK-IBIS-EUR/1day"], store=store, costs="none")
    with pytest.raises(NoBars, match="money in USD cannot be converted to EUR"):
        run(RoundTrip, "SAP-STK-IBIS-EUR/1day", store=store, benchmark="AAPL/1day")


@pytest.mark.parametrize("costs", ["ib-fixed-fees", "ib-forex"])
def test_a_future_does_not_pay_like_a_share(store, costs):
    with pytest.raises(UsageError, match=f"{costs} only covers .*, and ES-FUT-CME-USD-202403/1day is not one"):
        run(RoundTrip, "ES-FUT-CME-USD-202403/1day", store=store, costs=costs)


def test_that_a_commission_of_ones_own_takes_a_point_for_1_is_told(store):
    result = run(RoundTrip, "ES-FUT-CME-USD-202403/1day", store=store, costs=bt.CommInfoBase(commission=0.1))
    told = run(RoundTrip, "ES-FUT-CME-USD-202403/1day", store=store, costs="futures:2.25:50:15000")

    assert "a point of a contract taken for 1" in result.stats.basis
    assert "taken for 1" not in told.stats.basis


@pytest.mark.parametrize(
    ("series", "costs", "definition"),
    [
        ("AAPL-OPT-SMART-USD-20240315-190-C/1day", 100 * 0.65, "0.65 USD per contract"),
        ("AAPL-CFD-SMART-USD/1day", 1.0, "0.005 USD per share"),
    ],
)
def test_options_and_cfds_trade_where_their_schedule_is_known(store, series, costs, definition):
    if "OPT" in series:
        columns = ["time", "open", "high", "low", "close", "volume"]
        ingest(store.read(series).to_pandas()[columns], series, store, multiplier=100)

    result = run(RoundTrip, series, store=store, cash=1e7)

    (product,) = result.manifest["costs"]["products"].values()
    assert result.fills["costs"].tolist() == [pytest.approx(costs)] * 2
    assert definition in product["definition"]
    assert (product["standing"], bool(product["source"])) == ("published", True)


def test_rates_that_could_not_be_confirmed_are_told(store):
    result = run(RoundTrip, "7203-STK-TSEJ-JPY/1day", store=store, cash=1e7)

    assert "What IB charges for 7203-STK-TSEJ-JPY/1day is unconfirmed: IB fixed, Japanese stocks" in result.stats.basis
    assert "What IB charges" not in run(RoundTrip, "SAP-STK-IBIS-EUR/1day", store=store).stats.basis


def test_costs_of_futures_are_refused_for_shares(store):
    with pytest.raises(UsageError, match=r"futures:2\.25:50:15000 are for futures, and AAPL/1day is not one"):
        run(RoundTrip, "AAPL/1day", store=store, costs="futures:2.25:50:15000")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("AAPL-OPT-SMART-USD-20240315-190-C", "an option"),
        ("AAPL-CFD-SMART-USD", "a contract for difference"),
        ("T-BOND-SMART-USD", "a bond"),
    ],
)
def test_a_product_without_a_model_is_refused_unless_the_caller_brings_one(store, name, word):
    prices = "MIDPOINT" if "CFD" in name else "TRADES"
    series = f"{name}/1day" if prices == "TRADES" else f"{name}/1day/{prices}"
    for costs in ("ib-fixed-fees", "none", "bp:5") if name != "T-BOND-SMART-USD" else ("ib-fixed", "none", "bp:5"):
        with pytest.raises(UsageError, match=f"is {word}, which is not modelled here"):
            run(RoundTrip, series, store=store, costs=costs)

    own = run(RoundTrip, series, store=store, costs=bt.CommInfoBase(mult=100.0, margin=10.0, stocklike=False))
    assert own.stats["trades"] == 1
