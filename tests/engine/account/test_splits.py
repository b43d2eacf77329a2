"""Fees by the share on shares as they were traded: by a file of splits, or by what the store recorded."""

from datetime import UTC, date, datetime, timedelta

import backtrader as bt
import pytest

from backtest import Series, Span, Store, UsageError, run
from backtest.engine.account.splits import Splits, recorded_splits
from backtest.errors import quoted
from backtest.market.bars import table_of
from backtest.runs.spec import split_rules, splits_text
from backtest.store.manifest import RESCALED

FIRST = datetime(2000, 6, 19, tzinfo=UTC)  # a Monday; Apple split 2:1 on the 21st
AAPL_SPLITS = [("2000-06-21", 2), ("2005-02-28", 2), ("2014-06-09", 7), ("2020-08-31", 4)]


class Steps(bt.Strategy):
    """Give orders at the bars that are named, such as "1:100 3:-100": the number of the bar, and the size."""

    params = (("at", ""),)

    def next(self):
        steps = dict(map(int, step.split(":")) for step in self.p.at.split())
        if size := steps.get(len(self), 0):
            self.buy(size=size) if size > 0 else self.sell(size=-size)


def rows_of(closes):
    return [(FIRST + timedelta(days=n), p, p, p, p, 1e6, None, None) for n, p in enumerate(closes)]


@pytest.fixture
def store(tmp_path):
    """Return a store with five bars of a dollar, as of shares that were split 112:1 since the first."""
    store = Store(tmp_path / "bars")
    for name in ("AAPL", "MSFT", "EUR-CASH"):
        store.write(Series.parse(f"{name}/1day"), Span(FIRST, FIRST + timedelta(days=5)), table_of(rows_of([1.0] * 5)))
    return store


def test_one_share_of_a_day_is_so_many_today():
    factors = Splits(tuple((day, float(ratio)) for day, ratio in AAPL_SPLITS), "--splits").factors

    days = [
        date(1995, 1, 3),
        date(2000, 6, 20),
        date(2000, 6, 21),
        date(2005, 2, 28),
        date(2014, 6, 9),
        date(2020, 9, 1),
    ]
    assert [factors.on(day.toordinal()) for day in days] == [112, 112, 56, 28, 4, 1]


# 56,000 shares of today are 500 of the 20th, and 1,000 of the 21st: 2.50 and 5.00 USD, and not 280.
def test_fees_are_of_shares_as_they_were_traded(store, tmp_path):
    (tmp_path / "splits.csv").write_text("date,ratio\n" + "".join(f"{day},{ratio}\n" for day, ratio in AAPL_SPLITS))
    asked = {"store": store, "params": {"at": "1:56000 2:-56000"}}

    by_file = run(Steps, "AAPL/1day", **asked, splits=tmp_path / "splits.csv")
    by_rows = run(Steps, "AAPL/1day", **asked, splits=AAPL_SPLITS)
    without = run(Steps, "AAPL/1day", **asked)

    assert by_file.fills["costs"].tolist() == pytest.approx([2.5, 5.0])
    assert by_rows.fills["costs"].tolist() == by_file.fills["costs"].tolist()
    assert without.fills["costs"].tolist() == pytest.approx([280.0, 280.0])
    assert by_file.fills["size"].tolist() == without.fills["size"].tolist()
    assert by_file.equity.iloc[-1] == pytest.approx(100_000 - 7.5)
    assert type(by_file).load(by_file.save(tmp_path / "run")).spec == by_file.spec


def test_the_factors_are_shown_and_without_any_what_the_error_can_be(store):
    asked = {"store": store, "params": {"at": "1:56000 2:-56000"}}

    known, unknown = run(Steps, "AAPL/1day", **asked, splits=AAPL_SPLITS), run(Steps, "AAPL/1day", **asked)

    assert (
        "AAPL/1day are charged on shares as traded, using the splits from --splits: 2:1 on 2000-06-21"
        in known.stats.basis
    )
    assert known.manifest["splits"]["AAPL-STK-SMART-USD/1day/TRADES/rth"]["ratios"]["2014-06-09"] == 7
    # Each order pays at least 1 USD: 279 of 280 can be too much.
    assert "If the shares have split since, the fees are up to 558.00 USD too high" in unknown.stats.basis


@pytest.mark.parametrize(
    ("series", "costs", "at"), [("AAPL/1day", "ib-fixed", "1:100"), ("AAPL/1day", "bp:5", "1:5000"),
                                ("EUR-CASH/1day", "ib-fixed", "1:5000"), ("AAPL/1day", "none", "1:5000")]
)  # fmt: skip
def test_where_there_can_be_no_error_nothing_is_said(store, series, costs, at):
    assert "split" not in run(Steps, series, store=store, params={"at": at}, costs=costs).stats.basis


def test_fees_of_regulators_and_tiers_count_shares_as_traded(store):
    asked = {"store": store, "params": {"at": "1:56000 2:-56000"}, "splits": AAPL_SPLITS}

    fees, tiers = (
        run(Steps, "AAPL/1day", **asked, costs=name).fills["costs"] for name in ("ib-fixed-fees", "ib-tiered")
    )

    passed = 1 + 0.000175 + 0.00056  # of sales of 56,000 USD 33.30 a million; the activity fee of 1,000 shares
    taf = 1_000 * 0.000075
    assert fees.tolist() == pytest.approx([2.5, 5.0 + 56_000 * 33.3e-6 + taf])
    assert tiers.tolist() == pytest.approx([500 * (0.0035 * passed + 0.0032),
                                            1_000 * (0.0035 * passed + 0.0032) + 56_000 * 33.3e-6 + taf])  # fmt: skip


def test_splits_of_several_series_are_named(store):
    asked = {"store": store, "params": {"at": "1:100"}}
    rows = [("2000-06-21", 2, "AAPL/1day"), ("2003-02-18", 2, "MSFT/1day")]

    result = run(Steps, ["AAPL/1day", "MSFT/1day"], **asked, splits=rows)

    assert [list(told["ratios"]) for told in result.manifest["splits"].values()] == [["2000-06-21"], ["2003-02-18"]]
    with pytest.raises(UsageError, match="splits are given without a series, but the run has 2"):
        run(Steps, ["AAPL/1day", "MSFT/1day"], **asked, splits=[("2000-06-21", 2)])
    with pytest.raises(UsageError, match="for MSFT/1day, which is not in the run"):
        run(Steps, "AAPL/1day", **asked, splits=rows)
    with pytest.raises(UsageError, match="EUR-CASH/1day, whose prices are not adjusted for splits"):
        run(Steps, "EUR-CASH/1day", **asked, splits=[("2000-06-21", 2)])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("no-such-file.csv", "cannot be read"),
        ([("2000-06-31", 2)], r"'2000-06-31' in the split '2000-06-31=2' is not a valid date \(day .*write YYYY-MM-DD"),
        ([("2000-06-21", "two")], "the ratio 'two' of the split '2000-06-21=two' is not a number"),
        ([("2000-06-21", 0)], "ratio above 0"),
        ([("2000-06-21", 2), ("2000-06-21", 3)], "two splits are given for 2000-06-21"),
        ([("2000-06-21",)], "write its date and ratio"),
        (7, "write the path of a CSV file"),
    ],
)
def test_splits_that_cannot_be_read_are_refused(given, said):
    with pytest.raises(UsageError, match=said):
        splits_text(given)


def test_an_invalid_split_in_a_file_is_named_with_its_file_and_the_part_that_is_invalid(tmp_path):
    file = tmp_path / "splits.csv"
    file.write_text("date,ratio\n2024-03-04,x\n")

    with pytest.raises(UsageError) as refused:
        splits_text(file)

    assert str(refused.value) == (
        f"{quoted(file)}: the ratio 'x' of the split '2024-03-04=x' is not a number; write 2 for a 2-for-1 split"
    )


def test_a_file_of_splits_that_is_not_there_is_not_answered_with_python():
    with pytest.raises(UsageError, match=r"columns date,ratio \(and series\)$"):
        splits_text("nowhere.csv")


def test_the_text_of_splits_is_read_again(tmp_path):
    text = splits_text([(date(2000, 6, 21), 2, "AAPL/1day"), ("2003-02-18", 0.1)])

    assert splits_text(text) == text == "2003-02-18=0.1,AAPL/1day@2000-06-21=2"
    assert split_rules(text) == {"": (("2003-02-18", 0.1),), "AAPL/1day": (("2000-06-21", 2.0),)}
    (tmp_path / "other.csv").write_text("day,shares\n2000-06-21,2\n")
    with pytest.raises(UsageError):
        splits_text(str(tmp_path / "other.csv"))


def test_a_rescaling_that_the_store_recorded_is_a_split(tmp_path):
    store, series = Store(tmp_path / "bars"), Series.parse("AAPL/1day")
    old, new = [400.0, 404.0, 408.0], [100.0, 101.0, 102.0, 101.0, 103.0, 102.0, 104.0]
    store.write(series, Span(FIRST, FIRST + timedelta(days=3)), table_of(rows_of(old)))
    staged = Store(tmp_path / "again")
    staged.write(series, Span(FIRST, FIRST + timedelta(days=7)), table_of(rows_of(new)))
    store.replace(series, staged, why=RESCALED)

    result = run(Steps, "AAPL/1day", store=store, params={"at": "1:4000 4:-4000"}, cash=1e6)

    assert recorded_splits(store, series) == [("2000-06-22", 4.0)]
    assert result.fills["costs"].tolist() == pytest.approx([5.0, 20.0])  # 1,000 of the 20th, 4,000 of the 23rd
    assert "using the splits from the store: 4:1 on 2000-06-22" in result.stats.basis
