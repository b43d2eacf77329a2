"""What a contract is worth: multipliers of stored contract details and of spellings, and what a contract binds."""

from datetime import UTC, datetime, timedelta

import backtrader as bt
import pytest

from backtest import Series, Span, Store, UsageError, ingest, run
from backtest.market.bars import table_of
from backtest.market.series import ContractDetails
from backtest.metrics.account import sample

ES = "ES-FUT-CME-USD-202403/1day"
CLOSES = [5000.0, 5010.0, 5030.0, 5020.0]
FIRST = datetime(2024, 1, 2, tzinfo=UTC)
OF_IB = ContractDetails(con_id=495512563, local_symbol="ESH4", min_tick=0.25, multiplier="50")


class Steps(bt.Strategy):
    """Give orders at the bars that are named, such as "1:2 3:-2": the number of the bar, and the size."""

    params = (("at", ""), ("limit", 0.0))

    def next(self):
        steps = dict(map(int, step.split(":")) for step in self.p.at.split())
        if size := steps.get(len(self), 0):
            asked = {"exectype": bt.Order.Limit, "price": self.p.limit} if self.p.limit else {}
            (self.buy if size > 0 else self.sell)(size=abs(size), **asked)


class Target(bt.Strategy):
    """Want half of the account in the first series at the first bar."""

    def next(self):
        if len(self) == 1:
            self.order_target_percent(target=0.5)


class Open(bt.Strategy):
    """Buy at the first bar, however much the sizer says."""

    def next(self):
        if len(self) == 1:
            self.buy()


def rows_of(closes):
    return [(FIRST + timedelta(days=n), p, p + 1, p - 1, p, 1e6, None, None) for n, p in enumerate(closes)]


def kept(store, series, closes, contract=None):
    """Store a bar a calendar day, each of which opens and closes at its price."""
    rows = rows_of(closes)
    span = Span(FIRST, FIRST + timedelta(days=len(rows)))
    store.write(Series.parse(series), span, table_of(rows), contract=contract)
    return store


@pytest.fixture
def store(tmp_path):
    """Return a store with four bars of a future as IB describes it."""
    return kept(Store(tmp_path), ES, CLOSES, OF_IB)


# Bought at 5010, sold at 5020: two contracts of 50 a point gain 1000.
@pytest.mark.parametrize(("costs", "fees"), [("none", 0.0), ("bp:1", 50.1 + 50.2), ("ib-fixed", 4 * 2.25)])
def test_a_future_trades_with_the_multiplier_of_its_stored_contract(store, costs, fees):
    result = run(Steps, ES, store=store, params={"at": "1:2 3:-2"}, costs=costs, cash=1e6)

    assert result.trades[["gross", "costs"]].iloc[0].tolist() == pytest.approx([1_000, fees])
    assert result.equity.iloc[-1] == pytest.approx(1e6 + 1_000 - fees)
    assert result.equity.iloc[2] == pytest.approx(1e6 + 2 * 50 * 20 - result.fills["costs"].iloc[0])
    assert sample(result).traded == 50 * 2 * (5010 + 5020)
    assert "a point of ES worth 50 USD, contracts paid for in full" in result.stats.basis


def test_without_a_margin_a_contract_is_paid_in_full(store):
    result = run(Steps, ES, store=store, params={"at": "1:2 3:-2"}, costs="none", cash=1e6)
    poor = run(Steps, ES, store=store, params={"at": "1:2"}, costs="none", cash=500_000)

    assert result.record["cash"].to_pylist()[1] == 1e6 - 2 * 50 * 5010
    assert sample(result).leverage.peak == pytest.approx(2 * 50 * 5030 / (1e6 + 2_000))
    assert poor.orders["status"].tolist() == ["Margin"]  # 501,000 are more than there are


def test_with_a_margin_a_contract_binds_that_and_gains_go_to_the_cash(store):
    asked = {"store": store, "params": {"at": "1:2 3:-2"}, "costs": "none"}

    result = run(Steps, ES, **asked, margin=15_000)

    assert result.record["cash"].to_pylist() == [100_000, 70_000, 72_000, 101_000]
    assert result.equity.tolist() == [100_000, 100_000, 102_000, 101_000]
    assert "margin of a contract 15000" in result.stats.basis
    assert "paid for in full" not in result.stats.basis
    assert run(Steps, ES, **asked, margin=f"{ES}=15000").equity.tolist() == result.equity.tolist()


def test_a_short_future_loses_what_it_rises_and_is_not_borrowed(store):
    asked = {"store": store, "params": {"at": "1:-1"}, "costs": "none", "cash": 1e6}

    free, lent = run(Steps, ES, **asked), run(Steps, ES, **asked, borrow=0.5)

    assert free.equity.tolist() == [1e6, 1e6, 1e6 - 50 * 20, 1e6 - 50 * 10]
    assert lent.equity.tolist() == free.equity.tolist()


def test_a_share_of_the_account_is_counted_in_contracts(store):
    target = run(Target, ES, store=store, costs="none", cash=1e6)
    sized = run(Open, ES, store=store, costs="none", cash=1e6, size="percent:80")

    assert target.fills["size"].tolist() == [2]  # of 250,000 each
    assert sized.fills["size"].tolist() == [3]


def test_a_spelling_names_the_multiplier_of_imported_bars(tmp_path):
    own = f"{ES.removesuffix('/1day')}+multiplier=50/1day"
    store = kept(Store(tmp_path), own, CLOSES)

    result = run(Steps, own, store=store, params={"at": "1:2 3:-2"}, costs="none", cash=1e6)

    assert result.trades["gross"].tolist() == [1_000]


def test_a_file_and_a_frame_are_taken_in_with_a_multiplier(tmp_path):
    frame = table_of(rows_of(CLOSES)).to_pandas()[["time", "open", "high", "low", "close", "volume"]]

    ingest(frame, ES, tmp_path, multiplier=50)

    assert Store(tmp_path).manifest(ES).contract.multiplier == "50"
    result = run(Steps, ES, store=tmp_path, params={"at": "1:2 3:-2"}, costs="none", cash=1e6)
    assert result.trades["gross"].tolist() == [1_000]


@pytest.mark.parametrize("costs", ["none", "bp:5", 0.001, "ib-fixed", "ib-tiered"])
def test_a_future_without_a_multiplier_is_refused(tmp_path, costs):
    store = kept(Store(tmp_path), ES, CLOSES)

    with pytest.raises(UsageError, match=r"the value of a point of ES-FUT-CME-USD-202403/1day is unknown.*--multip"):
        run(Steps, ES, store=store, params={"at": "1:1"}, costs=costs)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"costs": "futures:2.25:5:15000"},
            "assume a multiplier of 5 for ES.*, but its contract details have 50; write 50",
        ),
        ({"costs": "futures:2.25:50:15000", "margin": 9_000}, "include a margin per contract"),
        ({"costs": "none", "margin": -1}, "must be above 0"),
        ({"costs": "none", "margin": "AAPL/1day=15000"}, "AAPL/1day, which is not a future of the run"),
        ({"costs": "none", "margin": "much"}, "is not a number"),
    ],
)
def test_terms_that_cannot_be_are_refused(store, asked, said):
    with pytest.raises(UsageError, match=said):
        run(Steps, ES, store=store, params={"at": "1:1"}, **asked)


def test_a_margin_is_of_futures_and_a_spelled_multiplier_is_the_stored_one(tmp_path, store):
    with pytest.raises(UsageError, match="none of the series is one"):
        run(Steps, "AAPL/1day", store=kept(store, "AAPL/1day", CLOSES), params={"at": "1:1"}, margin=15_000)
    other = ES.replace("/", "+multiplier=5/")
    with pytest.raises(UsageError, match="names the multiplier 5, but its stored contract details have 50"):
        run(Steps, other, store=kept(store, other, CLOSES, OF_IB), costs="none", params={"at": "1:1"})


@pytest.mark.parametrize(
    ("series", "multiplier", "said"),
    [("AAPL/1day", 50, "1day is neither"), (ES, -1, "above 0"), (ES.replace("/", "+multiplier=5/"), 50, "give one")],
)
def test_multipliers_that_cannot_be_are_not_taken_in(tmp_path, series, multiplier, said):
    frame = table_of(rows_of(CLOSES)).to_pandas()[["time", "open", "high", "low", "close", "volume"]]

    with pytest.raises(UsageError, match=said):
        ingest(frame, series, tmp_path, multiplier=multiplier)


def test_stocks_and_futures_keep_their_own_multipliers_in_one_run(store):
    kept(store, "AAPL/1day", CLOSES)

    class Both(bt.Strategy):
        def next(self):
            for data in self.datas:
                if len(self) == 1:
                    self.buy(data=data, size=2)
                if len(self) == 3:
                    self.close(data=data)

    result = run(Both, ["AAPL/1day", ES], store=store, costs="none", cash=1e6)

    assert sorted(result.trades["gross"].tolist()) == [20, 1_000]
    assert type(result).load(result.save(store.root / "kept")).spec.multipliers == (1, 50)


def test_a_future_at_the_close_of_its_bar_counts_its_multiplier(store):
    result = run(
        Steps, ES, store=store, params={"at": "1:2 3:-2"}, costs="none", cash=1e6, fills="this-close"
    )  # at 5000 and 5030

    assert result.equity.tolist() == pytest.approx([1e6, 1e6 + 1_000, 1e6 + 3_000, 1e6 + 3_000])
    assert result.record["cash"].to_pylist() == pytest.approx([5e5, 5e5, 1e6 + 3_000, 1e6 + 3_000])


def test_slippage_in_ticks_is_of_the_stored_tick(store):
    result = run(Steps, ES, store=store, params={"at": "1:2 3:-2"}, costs="none", cash=1e6, slippage="2ticks")

    assert result.fills["price"].tolist() == [5010.5, 5019.5]
    with pytest.raises(UsageError, match="the tick of AAPL/1day is not known"):
        run(Steps, "AAPL/1day", store=kept(store, "AAPL/1day", CLOSES), params={"at": "1:1"}, slippage="1tick")


@pytest.mark.parametrize(("limit", "off"), [(5000.1, 1), (5000.25, 0)])
def test_limits_off_the_tick_are_counted(store, limit, off):
    result = run(Steps, ES, store=store, params={"at": "1:1", "limit": limit}, costs="none", cash=1e6)

    assert result.manifest["market"].get("off_tick", 0) == off
    assert ("Limit and stop prices that are not a multiple" in result.stats.basis) == bool(off)
