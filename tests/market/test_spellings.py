"""What is written as it once was, or as others write it, gets the hint of what IB calls it today."""

import pytest

from backtest._system import one_word
from backtest.errors import NoBars, UnknownContract, UsageError
from backtest.market.series import Instrument, Series, did_you_mean_today
from backtest.market.spellings import RENAMED_EXCHANGES
from backtest.sources.connect import connect
from backtest.store.store import Store


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("EUR.USD/1hour", "EUR-CASH/1hour"),
        ("EURUSD/1hour", "EUR-CASH/1hour"),
        ("EURUSD%3DX/1day", "EUR-CASH/1day"),
        ("EUR.GBP/1min/MIDPOINT/all", "EUR-CASH-IDEALPRO-GBP/1min/MIDPOINT/all"),
        ("EUR.USD/1min/TRADES/all", "EUR-CASH/1min/MIDPOINT/all"),
        ("USD.JPY-CASH/1hour", "USD-CASH-IDEALPRO-JPY/1hour"),
        ("BTC.USD/1hour", "BTC-CRYPTO/1hour"),
        ("BRK.B/1day", one_word("BRK B/1day")),
        ("BAC.PRL/1day", one_word("BAC PRL/1day")),
        ("BRK.B-OPT-SMART-USD-20261218-500-C/1hour", one_word("BRK B-OPT-SMART-USD-20261218-500-C/1hour")),
        ("ES-FUT-GLOBEX-USD-202612/5mins", "ES-FUT-CME-USD-202612/5mins"),
        ("BRR-FUT-CMECRYPTO-USD-202612/5mins", "BRR-FUT-CME-USD-202612/5mins"),
        ("ZN-CONTFUT-ECBOT/1day", "ZN-CONTFUT-CBOT/1day"),
        ("ESTX50-IND-DTB-EUR/1day", "ESTX50-IND-EUREX-EUR/1day"),
        ("SMI-IND-SOFFEX-CHF/1day", "SMI-IND-EUREX-CHF/1day"),
        ("GC-FUT-NYMEX-USD-202612/1day", "GC-FUT-COMEX-USD-202612/1day"),
        ("MSFT-STK-ISLAND/1day", "MSFT-STK-NASDAQ/1day"),
        ("MSFT+primary=ISLAND/1day", "MSFT+primary=NASDAQ/1day"),
    ],
)
def test_an_old_spelling_gets_todays(written, meant):
    hint = did_you_mean_today(Series.parse(written))

    assert hint.startswith(f"; did you mean {meant} (")
    assert hint.endswith(")?")


@pytest.mark.parametrize(
    "written",
    [
        "AAPL/1day",
        "EUR-CASH/1hour",
        "BRK B/1day",
        "GOOGLE/1day",  # six letters, and no pair of currencies
        "USDUSD/1day",
        "BT.A-STK-LSE-GBP/1day",  # London's symbols have dots at IB, too
        "ES-FUT-CME-USD-202612/1day",
        "CL-FUT-NYMEX-USD-202612/1day",
        "PL-FUT-NYMEX-USD-202612/1day",
    ],
)
def test_what_ib_writes_so_today_gets_no_hint(written):
    assert did_you_mean_today(Series.parse(written)) == ""


def test_no_exchange_is_renamed_to_one_that_was_renamed():
    assert not set(RENAMED_EXCHANGES.values()) & set(RENAMED_EXCHANGES)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("EUR/USD/1hour", "EUR-CASH/1hour"),
        ("BRK/B/1day", one_word("BRK B/1day")),
        ("BRK-B/1day", one_word("BRK B")),
        ("EUR-USD/1hour", "EUR-CASH"),
        ("BTC-USD/1hour", "BTC-CRYPTO"),
        ("EURUSD=X/1day", "EUR-CASH"),
    ],
)
def test_a_symbol_that_is_split_at_its_own_marks_gets_the_hint_too(written, meant):
    with pytest.raises(UsageError, match=rf"did you mean {meant} \("):
        Series.parse(written)


@pytest.mark.parametrize("written", ["AAPL/BID/1day", "AAPL/1dya/TRADES", "AAPL-STOCK/1day"])
def test_other_mistakes_get_no_such_hint(written):
    with pytest.raises(UsageError) as caught:
        Series.parse(written)

    assert "did you mean AAPL" not in str(caught.value)
    assert "'AAPL" not in str(caught.value).replace(f"'{written}", "")


@pytest.mark.second_client
def test_a_gateway_that_knows_no_such_instrument_is_helped_with_todays_spelling(gateway):
    with (
        connect(gateway.address) as source,
        pytest.raises(UnknownContract, match=r"did you mean EUR-CASH \(") as caught,
    ):
        source.qualify(Instrument.parse("EUR.USD"))

    assert "error 200" in str(caught.value)


def test_a_folder_and_a_store_without_the_series_say_todays_spelling(tmp_path):
    wanted = Series.parse("ES-FUT-GLOBEX-USD-202612/1day")

    with pytest.raises(UnknownContract, match="did you mean ES-FUT-CME-USD-202612/1day"):
        connect(f"csv:{tmp_path}").fetch(wanted, None)
    with pytest.raises(NoBars, match="did you mean ES-FUT-CME-USD-202612/1day"):
        Store(tmp_path).manifest(wanted)
