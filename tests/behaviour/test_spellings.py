"""Qualified contracts through the real socket, series that are not made yet, and spellings that 0.1.0 wrote."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from market import minute_bars, span_of_sessions, store_with
from places import SUPPORT
from spellings.make_spellings import SERIES

from backtest import download, run, sweep
from backtest._system import one_word
from backtest.api import RunResult
from backtest.baselines.baseline import Baseline
from backtest.emulator.server import Gateway
from backtest.errors import AmbiguousContract, NoBars, UnknownContract, UsageError
from backtest.market.series import ContractDetails, Instrument, Series
from backtest.market.span import Span
from backtest.research.search.job import job_of
from backtest.research.search.sweeps import default_folder
from backtest.sources.connect import connect
from backtest.store import pins
from backtest.store.audit.listing import list_series
from backtest.store.audit.verification import verify
from backtest.store.manifest_json import of_bytes, to_bytes
from backtest.store.store import Store

KEPT = SUPPORT / "spellings"
SPRING = datetime(2024, 3, 28, tzinfo=UTC)
DATES = (date(2024, 3, 4), date(2024, 3, 8))
SILVER, MICRO = "SI-FUT-COMEX-USD-20241227+multiplier=5000/1day", "SI-FUT-COMEX-USD-20241227+multiplier=1000/1day"
MICROSOFT, WEEKLY = "MSFT+primary=NASDAQ/1day", "SPX-OPT-SMART-USD-20241220-5000-C+class=SPXW/1hour"
AT_IB = {
    SILVER: ContractDetails(11, "SIZ4", "SI", "Silver", multiplier="5000", last_trade_date="20241227"),
    MICRO: ContractDetails(12, "SILZ4", "SIL", "Silver", multiplier="1000", last_trade_date="20241227"),
    MICROSOFT: ContractDetails(21, "MSFT", "NMS", "MICROSOFT CORP", "NASDAQ"),
    "MSFT+primary=MEXI/1day": ContractDetails(22, "MSFT", "MSFT", "MICROSOFT CDR", "MEXI"),
    WEEKLY: ContractDetails(31, "SPXW  241220C05000000", "SPXW", "S&P 500", last_trade_date="20241220"),
    "SPX-OPT-SMART-USD-20241220-5000-C+class=SPX/1hour": ContractDetails(
        32, "SPX   241220C05000000", "SPX", "S&P 500", last_trade_date="20241220"
    ),
    "CL-FUT-NYMEX-USD-20241119/1day": ContractDetails(
        41, "CLZ4", "CL", "Crude oil", multiplier="1000", last_trade_date="20241119", contract_month="202412"
    ),
    "CL-FUT-NYMEX-USD-20241219/1day": ContractDetails(
        42, "CLF5", "CL", "Crude oil", multiplier="1000", last_trade_date="20241219", contract_month="202501"
    ),
    "BRK B+isin=US0846707026/1day": ContractDetails(51, "BRK B", "BRK B", "BERKSHIRE HATHAWAY", "NYSE"),
}


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    """Return a market of contracts that only qualifiers tell apart; each has bars of its own."""
    store = Store(tmp_path_factory.mktemp("upstream"))
    for number, (text, contract) in enumerate(AT_IB.items()):
        series = Series.parse(text)
        bars = minute_bars(series, *DATES, seed=number)
        store.write(series, span_of_sessions(series, *DATES), bars, contract=contract)
    return store


@pytest.fixture
def source(upstream):
    with Gateway(upstream, clock=lambda: SPRING) as gateway, connect(gateway.address) as opened:
        yield opened


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "bars")


# --- qualifiers that IB knows


@pytest.mark.slow
def test_contracts_that_only_a_qualifier_tells_apart_become_series_of_their_own(upstream, source, store):
    wanted = [Series.parse(text) for text in (SILVER, MICRO, MICROSOFT, WEEKLY)]

    report = download(store, source, wanted, DATES)

    assert report.complete
    assert set(store.series()) == set(wanted)
    assert all(store.read(series).equals(upstream.read(series)) for series in wanted)
    assert len({store.read(series)["open"][0].as_py() for series in wanted}) == 4
    assert [store.manifest(series).contract.con_id for series in wanted] == [11, 12, 21, 31]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "con_id"),
    [
        ("SI-FUT-COMEX-USD-202412+class=SIL", 12),
        ("SI-FUT-COMEX-USD-202412+local=SIZ4", 11),
        ("SI-FUT-COMEX-USD+conid=12", 12),
        ("MSFT+primary=MEXI", 22),
        ("BRK B+isin=US0846707026", 51),
    ],
)
def test_each_qualifier_that_ib_knows_reaches_it(source, asked, con_id):
    assert source.qualify(Instrument.parse(asked)).con_id == con_id


@pytest.mark.parametrize(
    ("asked", "key", "spellings"),
    [
        ("SI-FUT-COMEX-USD-202412", "multiplier", [MICRO, SILVER]),
        ("MSFT", "primary", ["MSFT+primary=MEXI/1day", MICROSOFT]),
        ("SPX-OPT-SMART-USD-20241220-5000-C", "class", ["SPX-OPT-SMART-USD-20241220-5000-C+class=SPX/1hour", WEEKLY]),
    ],
)
def test_an_ambiguous_contract_names_the_qualifiers_that_tell(source, asked, key, spellings):
    with pytest.raises(AmbiguousContract, match=f"fits 2 contracts; name one by its {key}, such as ") as caught:
        source.qualify(Instrument.parse(asked))

    rows = [line.split()[0] for line in str(caught.value).splitlines()[2:]]
    assert rows == [str(Series.parse(text).instrument) for text in spellings]
    assert len({source.qualify(Instrument.parse(row)).con_id for row in rows}) == 2


@pytest.mark.parametrize(
    "asked", ["SI-FUT-COMEX-USD-202412+multiplier=100", "MSFT+primary=NYSE", "BRK B+isin=US0378331005"]
)
def test_a_qualifier_that_fits_nothing_is_an_unknown_contract(source, asked):
    with pytest.raises(UnknownContract):
        source.qualify(Instrument.parse(asked))


def test_a_number_of_another_instrument_is_refused_before_its_bars_are_stored(source, store):
    wanted = Series.parse("AAPL+conid=21/1day")

    report = download(store, source, wanted, DATES)

    assert "conid 21 is MSFT-STK-SMART-USD+conid=21, not AAPL-STK-SMART-USD+conid=21" in report.series[0].errors[0]
    assert store.series() == []


def test_a_contract_that_is_stored_under_two_spellings_is_one_contract(tmp_path):
    store, number = Store(tmp_path), ContractDetails(21, "MSFT", "NMS", "MICROSOFT CORP", "NASDAQ")
    for text, day in (("MSFT/1day", date(2024, 3, 4)), (MICROSOFT, date(2024, 3, 5))):
        series = Series.parse(text)
        store.write(series, span_of_sessions(series, day, day), minute_bars(series, day, day), contract=number)

    with Gateway(store, clock=lambda: SPRING) as gateway, connect(gateway.address) as source:
        assert source.qualify(Instrument("MSFT")).con_id == 21
        assert source.near("MSF") == ["MSFT-STK-SMART-USD (MICROSOFT CORP)"]
        for text, day in (("MSFT/1day", date(2024, 3, 5)), (MICROSOFT, date(2024, 3, 4))):
            assert len(source.fetch(Series.parse(text), Span.of_dates(day, day))) == 1


# --- a month and a date


def test_a_contract_named_by_its_month_is_stored_by_its_last_trade_date(upstream, source, store):
    month, day = Series.parse("CL-FUT-NYMEX-USD-202412/1day"), Series.parse("CL-FUT-NYMEX-USD-20241119/1day")

    download(store, source, [month, day], DATES)
    again = download(store, source, month, DATES)

    assert store.series() == [day]  # December's oil, which trades until November
    assert again.requests == 0
    assert store.read(month).equals(store.read(day))
    assert store.read(month).equals(upstream.read(day))
    assert [one.series for one in verify(store.root, [month])] == ["", day.key]
    assert [one.series for one in list_series(store, [month])] == [day]


def test_another_month_is_never_taken_for_the_one_that_was_named(source, store):
    download(store, source, Series.parse("CL-FUT-NYMEX-USD-202501/1day"), DATES)

    with pytest.raises(NoBars, match="did you mean CL-FUT-NYMEX-USD-20241219/1day"):
        store.read(Series.parse("CL-FUT-NYMEX-USD-202412/1day"))  # January's oil ends in December


def test_a_run_is_the_same_by_month_and_by_date(source, store):
    download(store, source, Series.parse("CL-FUT-NYMEX-USD-202412/1day"), DATES)
    by_month, by_date = (
        run("buy_and_hold", f"CL-FUT-NYMEX-USD-{expiry}/1day", store=store, costs="none")
        for expiry in ("202412", "20241119")
    )

    assert by_month.spec == by_date.spec
    assert by_month.spec.series == ("CL-FUT-NYMEX-USD-20241119/1day/TRADES/rth",)


def test_a_sweep_takes_a_month_for_what_it_means_also_as_its_benchmark(source, store, tmp_path):
    download(store, source, Series.parse("CL-FUT-NYMEX-USD-202412/1day"), DATES)
    month = "CL-FUT-NYMEX-USD-202412/1day"

    there, points = store.root.as_uri(), {"invest": [0.4, 0.8]}
    asked = {"store": there, "benchmark": month, "costs": "none", "folder": tmp_path / "sweep", "cash": 1e8}
    found = sweep("buy_and_hold", month, points, **asked)

    assert [trial.error for trial in found.trials] == ["", ""]


def test_a_month_that_several_stored_contracts_have_is_refused(tmp_path):
    store = Store(tmp_path)
    for expiry in ("20241213", "20241220"):
        series = Series.parse(f"SPX-OPT-SMART-USD-{expiry}-5000-C/1hour")
        facts = ContractDetails(int(expiry), last_trade_date=expiry, contract_month="202412")
        store.write(series, span_of_sessions(series, *DATES), minute_bars(series, *DATES), contract=facts)

    with pytest.raises(UsageError, match=r"may be SPX.*20241213.* or SPX.*20241220.*; name one"):
        store.read(Series.parse("SPX-OPT-SMART-USD-202412-5000-C/1hour"))


def test_a_future_that_is_stored_by_its_month_goes_on_there(tmp_path, source):
    store = Store(shutil.copytree(KEPT / "store", tmp_path / "store"))
    month = Series.parse("ES-FUT-CME-USD-202406/1day")
    day = replace(month, instrument=replace(month.instrument, expiry="20240621"))

    assert store.named(day) == store.named(month) == month
    assert store.read(day).equals(store.read(month))


# --- series that are made here


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["ES-FUT-CME-USD-CONT+adjust=ratio+roll=volume/1day", "ES-FUT-CME-USD-CONT/1day", "AAPL+adjust=ratio/1day"]
)
def test_a_series_that_would_have_to_be_made_is_refused_by_everything_that_needs_it(call, tmp_path, source, text):
    series, store, kept = Series.parse(text), Store(tmp_path / "bars"), tmp_path / "kept.csv"
    verbs = [
        lambda: download(store, source, series, DATES),
        lambda: source.qualify(series.instrument),
        lambda: store.read(series),
        lambda: store.manifest(series),
        lambda: store.write(series, span_of_sessions(series, *DATES), minute_bars(Series.parse("AAPL/1day"), *DATES)),
        lambda: pins.add(store, tmp_path / "data.lock", [series]),
        lambda: run("buy_and_hold", text, store=store),
        lambda: run("buy_and_hold", "AAPL/1day", store=KEPT / "store", benchmark=text),
        lambda: list(verify(KEPT / "store", [series])),
        lambda: job_of("buy_and_hold", text, store=store),
    ]
    for verb in verbs:
        with pytest.raises(UsageError, match=r"^not yet supported: "):
            verb()
    commands = [
        ("download", text, "--since", "2024-03-04", "--source", f"gateway:{KEPT / 'store'}"),
        ("import", kept, text),
        ("export", text, kept),
        ("ls", text),
        ("verify", text),
        ("run", "buy_and_hold", text),
        ("pin", text, "--lock", tmp_path / "data.lock"),
        ("publish", (tmp_path / "there").as_uri(), text),
        ("prune", text),
    ]
    for words in commands:
        code, out, said = call(*words, "--store", KEPT / "store")
        assert (code, out) == (2, ""), words
        assert "not yet supported: " in said, words


def test_ibs_own_continuous_future_is_served_as_before(tmp_path):
    series = Series.parse("ES-CONTFUT-CME-USD/1day")
    store = store_with(tmp_path / "upstream", {"ES-CONTFUT-CME-USD/1day": ("2024-03-04", "2024-03-08")})
    with Gateway(store, clock=lambda: SPRING) as gateway, connect(gateway.address) as source:
        assert download(Store(tmp_path / "bars"), source, series, DATES).complete


# --- what 0.1.0 wrote


def test_a_store_of_0_1_0_is_read_by_its_old_and_its_new_spelling(call):
    store = Store(KEPT / "store")

    assert [series.short for series in store.series()] == [
        "%62RK.B/1day",
        "BRK B/1day",
        "ES-FUT-CME-USD-202406/1day",
        "SPX-OPT-CBOE-USD-20240621-12.5-C/8hours",
    ]
    for number, text in enumerate(SERIES, 1):
        assert store.read(Series.parse(text))["close"].to_pylist() == [10.0 + number / 10] * 4
    assert store.read(Series.parse("BRK%20B/1day")).equals(store.read(Series.parse("BRK B/1day")))
    code, out, _ = call("ls", "--store", KEPT / "store")
    assert code == 0
    assert "BRK B/1day" in out
    assert "%20" not in out


def test_manifests_of_0_1_0_stay_the_same_bytes():
    for path in sorted((KEPT / "store").glob("*/*/*/*/manifest.json")):
        series = Series.parse(path.parent.relative_to(KEPT / "store").as_posix())
        assert to_bytes(of_bytes(path.read_bytes(), path, series)) == path.read_bytes()


def test_pins_of_0_1_0_hold_and_are_written_as_they_were(tmp_path):
    lock, store = Path(shutil.copy(KEPT / "data.lock", tmp_path)), Store(KEPT / "store")

    reports = pins.examine(store, lock)
    pins.save_pins(lock, [report.pin for report in reports])

    assert {report.status for report in reports} == {"held"}
    assert lock.read_bytes() == (KEPT / "data.lock").read_bytes()


def test_a_run_of_0_1_0_keeps_its_name_and_is_the_same_again():
    kept = RunResult.load(KEPT / "run")
    again = run("buy_and_hold", ["BRK B/1day", "%62rk.b/1day"], store=KEPT / "store", benchmark="BRK B/1day")

    assert (kept.name, kept.spec.key) == ("BuyAndHold-BRK-20B-1day-151f159a21", "f87e2ee073")  # as 0.1.0 said
    assert kept.spec == again.spec
    assert kept.manifest["series"] == again.manifest["series"]
    assert kept.series == again.series == ["BRK B/1day", "%62RK.B/1day"]
    assert kept.record.equals(again.record)
    assert kept.stats.to_dict() == again.stats.to_dict()
    assert Baseline.of(kept).orders == Baseline.of(again).orders


def test_a_sweep_of_0_1_0_is_found_and_known_again():
    job = job_of("buy_and_hold", "BRK B/1day", store=KEPT / "store", swept=["invest"])

    assert default_folder(job).name == "BuyAndHold-BRK-20B-1day-sweep"
    assert list(job.digests) == ["BRK%20B-STK-SMART-USD/1day/TRADES/rth"]


def test_people_read_the_symbol_and_commands_quote_it(call, tmp_path):
    code, _, said = call("run", "buy_and_hold", "BRK A/1day", "--store", KEPT / "store")
    _, out, _ = call("verify", "BRK B/1day", "--store", KEPT / "store", "--json")

    assert code == 3
    assert "BRK A/1day is not in" in said
    assert f"backtest download {one_word('BRK A/1day')}" in " ".join(said.split())
    assert list(json.loads(out)["series"]) == ["BRK B-STK-SMART-USD/1day/TRADES/rth"]


def test_files_of_a_folder_are_found_by_the_shown_and_by_the_escaped_name(tmp_path):
    text = "time,open,high,low,close\n2024-03-04,1,2,1,2\n"
    wanted = Series.parse("BRK B/1day")
    for name in ("BRK B_1day", "BRK B", "BRK%20B_1day", "BRK%20B"):
        file = tmp_path / f"{name}.csv"
        file.write_text(text)
        with connect(f"csv:{tmp_path}") as source:
            assert len(source.fetch(wanted, Span.of_dates(*DATES))) == 1
        file.unlink()


def test_no_file_is_asked_for_that_windows_takes_for_a_device(tmp_path):
    with connect(f"csv:{tmp_path}") as source, pytest.raises(UnknownContract, match=r"name it CON_1day\.csv$"):
        source.fetch(Series.parse("CON/1day"), Span.of_dates(*DATES))
