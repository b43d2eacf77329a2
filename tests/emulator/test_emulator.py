"""What the emulator says of contracts, and ADJUSTED_LAST that it makes, as a client that downloads them sees it."""

from datetime import UTC, date, datetime

import numpy as np
import pytest

from backtest import Store, connect, download
from backtest.cli.app import main
from backtest.emulator.server import Gateway
from backtest.engine.account.dividends import PREVIOUS_CLOSE, derive, dividends_of, paid_by_instrument
from backtest.market import arrays
from backtest.market.bars import table_of
from backtest.market.series import ContractDetails, Series
from backtest.market.span import Span

TOYOTA, IBM = Series.parse("7203-STK-TSEJ-JPY/1day"), Series.parse("IBM/1day")
# A break at noon; the day after Thanksgiving ends at one.
OF_TOYOTA = "20241129:0900-20241129:1130,20241129:1230-20241129:1500;20241130:CLOSED;20241202:0900-20241202:1130"
OF_IBM = "20241127:0930-20241127:1600;20241128:CLOSED;20241129:0930-20241129:1300;20241130:CLOSED"
DETAILS = {
    TOYOTA: ContractDetails(
        14016545, "7203", "7203", "TOYOTA MOTOR CORP", "TSEJ", "SMART,TSEJ", "Japan", 0.5, "", "", "",
        OF_TOYOTA, OF_TOYOTA,
    ),
    IBM: ContractDetails(
        8314, "IBM", "IBM", "INTL BUSINESS MACHINES CORP", "NYSE", "SMART,AMEX,NYSE", "US/Eastern", 0.01, "", "", "",
        OF_IBM.replace("0930", "0400"), OF_IBM,
    ),
}  # fmt: skip


def flat(day, price=100.0):
    return (datetime(day.year, day.month, day.day, tzinfo=UTC), price, price, price, price, None, None, None)


def taken(served, folder, series, span, now, **asked):
    """Return a store with what a client downloads from an emulator of another one."""
    made = Store(folder, lambda: now)
    with Gateway(served, clock=lambda: now, **asked) as gateway, connect(gateway.address, clock=lambda: now) as source:
        download(made, source, series, span)
    return made


@pytest.mark.parametrize("series", DETAILS)
def test_details_go_from_store_to_emulator_to_store_with_breaks_and_half_days(tmp_path, series):
    now = datetime(2024, 11, 29, 2, tzinfo=UTC)  # the 28th in New York
    served = Store(tmp_path / "served", lambda: now)
    days = [date(2024, 11, day) for day in (25, 26, 27)]
    bars = table_of([flat(day) for day in days])
    served.write(series, Span.of_dates(days[0], days[-1]), bars, contract=DETAILS[series])

    made = taken(served, tmp_path / "taken", [series], (days[0], days[-1]), now)

    assert made.manifest(series).contract == DETAILS[series]


def hours_on(tmp_path, series, now):
    served = Store(tmp_path / "served", lambda: now)
    day = date(2024, 11, 27)
    served.write(series, Span.of_dates(day, day), table_of([flat(day)]), contract=DETAILS[series])
    contract = taken(served, tmp_path / "taken", [series], (day, day), now).manifest(series).contract
    return contract.trading_hours, contract.liquid_hours


def test_hours_that_are_over_are_told_by_the_calendar(tmp_path):
    trading, liquid = hours_on(tmp_path, IBM, datetime(2024, 12, 23, 15, tzinfo=UTC))

    assert liquid.startswith("20241223:0930-20241223:1600;20241224:0930-20241224:1300;20241225:CLOSED")
    assert trading.startswith("20241223:0400-20241223:2000;20241224:0400-")


def test_no_exchange_with_hours_is_told_to_be_open_all_day(tmp_path):
    trading, liquid = hours_on(tmp_path, TOYOTA, datetime(2024, 12, 23, 2, tzinfo=UTC))

    assert trading == liquid
    assert trading.startswith("20241223:0900-20241223:1130,20241223:1230-20241223:1530;")


# --- ADJUSTED_LAST out of a table


def of_ibm(tmp_path, sample):
    """Return a store of IBM's TRADES alone, and what its shares paid in a year."""
    now, year = datetime(2012, 12, 31, 23, tzinfo=UTC), Span.of_dates(date(2012, 1, 3), date(2012, 12, 31))
    served = Store(tmp_path / "served", lambda: now)
    served.write(IBM, year, sample.read(IBM, year))
    return served, {IBM.instrument: {date(2012, 2, 8): 0.75, date(2012, 5, 8): 0.85, date(2012, 11, 7): 0.85}}, now


ADJUSTED = Series.parse("IBM/1day/ADJUSTED_LAST")
YEAR = (date(2012, 1, 3), date(2012, 12, 31))


def test_adjusted_prices_are_made_of_a_table_where_they_are_not_stored(tmp_path, sample):
    served, paid, now = of_ibm(tmp_path, sample)

    made = taken(served, tmp_path / "taken", [ADJUSTED], YEAR, now, dividends=paid)

    days, traded, adjusted = (
        arrays.numbers(served.read(IBM)["time"]).astype("datetime64[us]").astype("datetime64[D]"),
        *(np.column_stack([arrays.numbers(one[c]) for c in ("open", "high", "low", "close")]) for one in
          (served.read(IBM), made.read(ADJUSTED))),
    )  # fmt: skip
    found = derive(days, traded, adjusted)
    assert found.convention == PREVIOUS_CLOSE
    assert dict(zip(found.days.tolist(), found.amounts.tolist(), strict=True)) == pytest.approx(paid[IBM.instrument])
    # By hand: 192.87 was the last close before the ex-date in November.
    row = list(days).index(np.datetime64("2012-11-06"))
    assert adjusted[row, 3] == pytest.approx(traded[row, 3] * (1 - 0.85 / traded[row, 3]), rel=1e-12)
    assert (adjusted[row + 1 :] == traded[row + 1 :]).all()


def test_dividends_of_later_are_not_in_the_prices_yet(tmp_path, sample):
    served, paid, _ = of_ibm(tmp_path, sample)
    now = datetime(2012, 3, 30, 23, tzinfo=UTC)

    made = taken(served, tmp_path / "taken", [ADJUSTED], (YEAR[0], date(2012, 3, 30)), now, dividends=paid)

    closes = [one["close"].to_pylist() for one in (made.read(ADJUSTED), served.read(IBM))]
    assert closes[0][-1] == closes[1][len(closes[0]) - 1]  # of the thirtieth of March
    assert closes[0][0] == pytest.approx(closes[1][0] * (1 - 0.75 / 193.35), rel=1e-12)  # the close of the seventh


def test_stored_adjusted_prices_stay_what_they_are_whatever_a_table_says(tmp_path, sample):
    served, paid, now = of_ibm(tmp_path, sample)
    year = Span.of_dates(*YEAR)
    served.write(ADJUSTED, year, sample.read(ADJUSTED, year))

    made = taken(served, tmp_path / "taken", [ADJUSTED], YEAR, now, dividends=paid)

    assert made.read(ADJUSTED).equals(served.read(ADJUSTED))


def test_without_a_table_there_are_none(tmp_path, sample):
    served, _, now = of_ibm(tmp_path, sample)

    made = taken(served, tmp_path / "taken", [ADJUSTED], YEAR, now)

    assert ADJUSTED not in made.series() or not made.manifest(ADJUSTED).rows


def test_the_file_of_a_run_is_that_of_the_emulator(tmp_path, sample):
    path = tmp_path / "paid.csv"
    path.write_text("date,amount,currency,series\n2012-02-08,0.75,USD,IBM\n2012-02-08,0.2,USD,MSFT\n")

    found = paid_by_instrument(path, sample.series())

    assert found[IBM.instrument] == {date(2012, 2, 8): 0.75}
    assert dividends_of(str(path), sample, [IBM]).of(IBM).amounts == (0.75,)


def test_a_command_refuses_a_file_that_is_not_there(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["emulator", "--store", "sample", "--dividends", str(tmp_path / "none.csv")])

    assert ended.value.code == 2
    assert "none.csv' cannot be read" in capsys.readouterr().err
