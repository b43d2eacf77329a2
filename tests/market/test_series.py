import re
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest._system import one_word
from backtest.errors import BadBars, UsageError
from backtest.market.bars import check_bars, rows_digest, table_of
from backtest.market.ib_limits import LEGACY, LONGEST, PRACTICAL
from backtest.market.series import BAR_SIZES, PRICES, BarSize, Instrument, Series
from backtest.market.span import Span, union

NOON = datetime(2024, 1, 2, 12, tzinfo=UTC)


def bar(day=2, low=9.0, high=12.0, close=11.0, volume=100.0):
    return (datetime(2024, 1, day, tzinfo=UTC), 10.0, high, low, close, volume, None, None)


def days(first, last):
    return Span.of_dates(date(2024, 1, first), date(2024, 1, last))


def test_a_spelling_that_was_read_is_not_read_again():
    """The page of a run of 500 series asks 133,520 times for one."""
    assert Series.parse("AAPL/1day") is Series.parse("AAPL/1day")
    assert Series.parse("AAPL/1day").short is Series.parse("AAPL/1day").short


@pytest.mark.parametrize(
    ("typed", "whole"),
    [
        ("AAPL/1day", "AAPL-STK-SMART-USD/1day/TRADES/rth"),
        ("aapl/1day", "AAPL-STK-SMART-USD/1day/TRADES/rth"),
        ("AAPL/5 mins/TRADES/all", "AAPL-STK-SMART-USD/5mins/TRADES/all"),
        ("EUR-CASH-IDEALPRO-USD/1min/MIDPOINT", "EUR-CASH-IDEALPRO-USD/1min/MIDPOINT/rth"),
        ("EUR-CASH/1min", "EUR-CASH-IDEALPRO-USD/1min/MIDPOINT/rth"),
        ("ES-FUT-CME-USD-202612/5mins", "ES-FUT-CME-USD-202612/5mins/TRADES/rth"),
        ("ES-CONTFUT-CME-USD/1day", "ES-CONTFUT-CME-USD/1day/TRADES/rth"),
        ("BRK B/1day", "BRK B-STK-SMART-USD/1day/TRADES/rth"),
        ("BRK%20B/1day", "BRK B-STK-SMART-USD/1day/TRADES/rth"),
        ("brk.b/1day", "BRK.B-STK-SMART-USD/1day/TRADES/rth"),
        ("bf%2db/1day", "BF%2DB-STK-SMART-USD/1day/TRADES/rth"),
        ("X-OPT-CBOE-USD-20261218-12.50-C/1min", "X-OPT-CBOE-USD-20261218-12.5-C/1min/TRADES/rth"),
        ("MSFT+primary=nasdaq/1day", "MSFT-STK-SMART-USD+primary=NASDAQ/1day/TRADES/rth"),
        (
            "SI-FUT-COMEX-USD-202612+Multiplier=5000.0+class=si/1day",
            "SI-FUT-COMEX-USD-202612+class=SI+multiplier=5000/1day/TRADES/rth",
        ),
        (
            "SPX-OPT-SMART-USD-20261218-5000-C+class=SPXW/1hour",
            "SPX-OPT-SMART-USD-20261218-5000-C+class=SPXW/1hour/TRADES/rth",
        ),
        (
            "ES-FUT-CME-USD-cont+roll=Volume+adjust=ratio/1day",
            "ES-FUT-CME-USD-CONT+adjust=ratio+roll=volume/1day/TRADES/rth",
        ),
        ("AAPL+isin=us0378331005/1day", "AAPL-STK-SMART-USD+isin=US0378331005/1day/TRADES/rth"),
        ("ES+local=ESZ6 X/1day", "ES-STK-SMART-USD+local=ESZ6 X/1day/TRADES/rth"),
    ],
)
def test_a_series_has_one_spelling(typed, whole):
    assert str(Series.parse(typed)) == whole
    assert Series.parse(whole) == Series.parse(typed)


def test_the_short_spelling_leaves_out_what_is_the_default():
    assert Series.parse("AAPL-STK-SMART-USD/1day/TRADES/rth").short == "AAPL/1day"
    assert Series.parse("AAPL-STK-SMART-USD/1day/TRADES/all").short == "AAPL/1day/TRADES/all"
    assert Series.parse("EUR-CASH-IDEALPRO-USD/1min/MIDPOINT/rth").short == "EUR-CASH/1min"
    assert Series.parse("BRK%20B-STK-SMART-USD+primary=NYSE/1day").short == "BRK B+primary=NYSE/1day"


def test_a_folder_keeps_the_name_that_it_had_and_people_read_the_symbol_itself():
    series = Series.parse("BRK B/1day")

    assert series.key == "BRK%20B-STK-SMART-USD/1day/TRADES/rth"
    assert (series.short, series.short_key, series.quoted) == ("BRK B/1day", "BRK%20B/1day", one_word("BRK B/1day"))


@pytest.mark.slow
@given(
    symbol=st.text(min_size=1, max_size=12).filter(str.isprintable),
    size=st.sampled_from(["1day", "1min", "30secs"]),
    prices=st.sampled_from(PRICES),
    regular_hours=st.booleans(),
)
def test_any_symbol_survives_its_spelling_which_is_a_safe_folder(symbol, size, prices, regular_hours):
    series = Series(Instrument(symbol), BarSize.parse(size), prices, regular_hours)

    for spelling in (str(series), series.key, series.short, series.short_key):
        assert Series.parse(spelling) == series
        assert Series.parse(f" {spelling} ") == series
    assert series.key.count("/") == str(series).count("/") == 3
    assert series.instrument.key.replace("%", "").replace("-", "").replace("_", "").isalnum()
    assert series.instrument.key == series.instrument.key.upper()


def test_symbols_that_differ_only_in_case_or_slash_are_different_folders():
    spelled = {Instrument(symbol).key for symbol in ("AAPL", "aapl", "AUD/USD", "AUDUSD", "AUD.USD")}

    assert len(spelled) == 5


@pytest.mark.slow
@given(st.lists(st.text(min_size=1, max_size=16), min_size=2, max_size=2, unique=True))
def test_no_two_symbols_have_one_folder_on_any_disk(symbols):
    spelled = [Instrument(symbol).key for symbol in symbols if symbol.isprintable()]

    assert len({text.casefold() for text in spelled}) == len(spelled)  # none that tells upper case from lower
    assert all(set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_%-") for text in spelled)


@pytest.mark.slow
@given(st.text(st.characters(), max_size=40))  # with halves of surrogate pairs, as from an argument that is not UTF-8
def test_whatever_is_typed_is_refused_or_stays_inside_of_the_store(text):
    try:
        series = Series.parse(text)
    except UsageError:
        return

    parts = PurePosixPath("store", series.key).parts
    assert len(parts) == 5
    assert not {".", "..", ""} & set(parts)
    assert Series.parse(str(series)) == Series.parse(series.key) == series


@pytest.mark.parametrize(
    "symbol", ["../../x", "..", ".", "CON", "NUL", "A B ", "A.", "-A", ".A", "ä", "A/B", "A\\B", "%2E", "~", "C:"]
)
def test_an_odd_symbol_is_an_ordinary_folder(symbol):
    name = Instrument(symbol).key

    assert re.fullmatch(r"[A-Z0-9_%]+-STK-SMART-USD", name)
    assert Instrument.parse(name).symbol == symbol


@pytest.mark.parametrize("symbol", ["", "A\0B", "A\nB", "\ud800", "A" * 200, "ä" * 40, "\u202e"])
def test_a_symbol_that_no_disk_or_terminal_could_take_is_refused(symbol):
    with pytest.raises(UsageError, match=r"symbol|too long"):
        Instrument(symbol)


@pytest.mark.parametrize(
    ("field", "value"),
    [("exchange", "../X"), ("currency", "US/D"), ("expiry", "٢٠٢٦١٢"), ("strike", "1/2"), ("strike", "1" * 300)],
)
def test_no_other_word_of_an_instrument_can_lead_elsewhere(field, value):
    with pytest.raises(UsageError):
        Instrument("SPY", "OPT", **{"strike": "1", "right": "C"} | {field: value})


def test_a_currency_with_a_dot_is_a_folder_that_no_system_shortens():
    assert Instrument("X", currency="USD.").key.endswith("-USD%2E")
    assert str(Instrument("X", currency="USD.")).endswith("-USD.")


def test_qualifiers_are_taken_as_a_mapping_and_as_pairs():
    pairs = Instrument("SI", "FUT", "COMEX", qualifiers=(("multiplier", "5000"), ("class", "SI")))

    assert Instrument("SI", "FUT", "COMEX", qualifiers={"class": "SI", "multiplier": 5000}) == pairs
    assert pairs.qualifiers == (("class", "SI"), ("multiplier", "5000"))


@pytest.mark.parametrize("wrong", ["primary=NASDAQ", 5, None, ["primary"], [("primary", "NASDAQ", "X")]])
def test_qualifiers_of_another_form_are_refused_with_what_to_write(wrong):
    with pytest.raises(UsageError, match=r"write pairs, such as \{'primary': 'NASDAQ'\}"):
        Instrument("MSFT", qualifiers=wrong)


WORD = st.text(min_size=1, max_size=3).filter(lambda text: text.isprintable() and text.strip())
QUALIFIED = st.fixed_dictionaries(
    {},
    optional={
        "conid": st.integers(1, 2**31 - 1).map(str),
        "class": WORD,
        "local": WORD,
        "multiplier": st.decimals("0.001", 9999, places=3).map(str),
        "primary": st.text("ABC._1", min_size=1, max_size=5),
        "isin": st.sampled_from(["US0378331005", "US5949181045", "DE0007164600"]),
        "roll": st.sampled_from(["volume", "expiry"]),
        "adjust": st.sampled_from(["ratio", "none"]),
        "depth": st.integers(1, 99).map(str),
    },
)
INSTRUMENTS = st.builds(
    lambda symbol, kind, qualifiers: Instrument(symbol, *kind, qualifiers=tuple(qualifiers.items())),
    st.one_of(
        WORD, st.sampled_from(["CON", "con", "NUL.txt", "AAPL", "aapl", "A+B", "A=B", "A-B", "A/B", "%41", "A%"])
    ),
    st.sampled_from([("STK",), ("FUT", "CME", "USD", "202612"), ("FUT", "CME", "USD", "CONT"), ("IND", "A.B", "EUR")]),
    QUALIFIED,
)


@pytest.mark.slow
@given(INSTRUMENTS, INSTRUMENTS)
def test_folders_are_one_to_one_on_a_disk_that_is_blind_to_case(one, other):
    assert (one.key.casefold() == other.key.casefold()) == (one == other)


@pytest.mark.slow
@given(INSTRUMENTS)
def test_an_instrument_survives_every_spelling_and_any_order_of_its_qualifiers(instrument):
    turned = "+".join([str(instrument).split("+")[0], *reversed(str(instrument).split("+")[1:])])

    assert Instrument.parse(str(instrument)) == Instrument.parse(instrument.key) == instrument
    assert Instrument.parse(turned) == instrument


@pytest.mark.slow
@given(INSTRUMENTS)
def test_no_folder_has_a_name_that_windows_reserves_or_shortens(instrument):
    name = instrument.key

    assert not re.fullmatch(r"(CON|PRN|AUX|NUL|COM[0-9]|LPT[0-9])(\..*)?", name, re.IGNORECASE)
    assert not name.endswith((".", " "))
    assert not set(name) & set('<>:"/\\|?*')


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("AAPL", "AAPL/1day"),
        ("AAPL/1days", "1 day".replace(" ", "")),
        ("AAPL/1day/PRICE", "TRADES"),
        ("AAPL/1day/TRADES/night", "rth"),
        ("AAPL-STOCK/1day", "STK"),
        ("/1day", "AAPL"),
        ("SPY-OPT-SMART-USD-20261218-500/1min", "500-C"),
        ("ES-FUT-CME-USD-2612/1min", "YYYYMM"),
        ("ES-CONTFUT-CME-USD-CONT/1day", "FUT"),
        ("SPY-OPT-SMART-USD--500-C/1min", "expiry"),
        ("BF-B/1day", "- as %2D"),
        ("AUD/USD/1day", "/ as %2F"),
        ("A/B/C/D/1day", "/ as %2F"),
        ("A+B/1day", r"\+ as %2B"),
        ("ES=F/1day", "= as %3D"),
        ("A-B-C-D-E-F-G-H/1day", "- as %2D"),
        ("AAPL+/1day", "KEY=VALUE"),
        ("AAPL+conid/1day", "KEY=VALUE"),
        ("AAPL+=1/1day", "no qualifier ''"),
        ("AAPL+clas=NMS/1day", "did you mean class"),
        ("AAPL+conid=1+conid=2/1day", "conid is named twice, as '1' and '2'"),
        ("AAPL+conid=0/1day", r"\+conid=265598"),
        ("AAPL+conid=-5/1day", r"\+conid=265598"),
        ("AAPL+conid=2147483648/1day", r"\+conid=265598"),
        ("AAPL+conid=\u0661/1day", r"\+conid=265598"),
        ("AAPL+multiplier=0.00/1day", r"a number above 0, such as \+multiplier=5000"),
        ("AAPL+multiplier=1e3/1day", r"\+multiplier=5000"),
        ("AAPL+class=/1day", r"\+class=SPXW"),
        ("AAPL+local=%20/1day", r"\+local=ESZ6"),
        ("AAPL+local=A%0AB/1day", r"\+local=ESZ6"),
        ("AAPL+primary=NAS DAQ/1day", r"\+primary=NASDAQ"),
        ("AAPL+isin=US0378331006/1day", r"\+isin=US0378331005"),
        ("AAPL+depth=0/1day", r"\+depth=2"),
        ("AAPL+roll=1/1day", r"\+roll=volume"),
        ("\udcff/1day", "invalid symbol"),
        ("\udcff.csv ib://127.0.0.1:1", "unknown bar size ''"),
        ("AAPL/1d\udcffay/all", "unknown bar size"),
        ("%ED%B3%BF/1day", "an escape that is not UTF-8"),
    ],
)
def test_a_misspelt_series_is_refused_with_what_to_write(text, hint):
    with pytest.raises(UsageError, match=hint):
        Series.parse(text)


def test_a_gap_is_what_no_span_covers():
    gaps = days(1, 7).minus([days(3, 4)])

    assert gaps == [days(1, 2), days(5, 7)]


def test_spans_that_touch_are_one():
    assert union([days(5, 6), days(1, 2), days(3, 4)]) == [days(1, 6)]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), max_size=8))
def test_gaps_and_what_they_leave_make_the_whole_again(parts):
    whole = Span(NOON, NOON + timedelta(hours=60))
    spans = [Span(NOON + timedelta(hours=start), NOON + timedelta(hours=start + size)) for start, size in parts]

    gaps = whole.minus(spans)
    inside = [common for span in spans if (common := whole.common(span))]

    assert union([*gaps, *inside]) == [whole]
    assert not any(gap.common(span) for gap in gaps for span in spans)


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(UsageError, match="time zone"):
        Span(datetime(2024, 1, 1), NOON)  # noqa: DTZ001


def test_a_span_is_kept_in_utc():
    east = timezone(timedelta(hours=5))

    assert Span(NOON.astimezone(east), NOON + timedelta(1)) == Span(NOON, NOON + timedelta(1))


def test_good_bars_pass():
    check_bars(table_of([bar(2), bar(3)]), Series.parse("AAPL/1day"))


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([bar(3), bar(2)], "time not after"),
        ([bar(2), bar(2)], "time not after"),
        ([bar(2, high=10.5)], "high below"),
        ([bar(2, low=10.5)], "low above"),
        ([bar(2, close=float("nan"))], "close not finite"),
        ([bar(2, high=float("inf"))], "high not finite"),
        ([bar(2, volume=-1.0)], "volume negative"),
        ([bar(2, volume=float("nan"))], "volume not finite"),
        ([(NOON, 10.0, 12.0, 9.0, 11.0, 1.0, None, None)], "daily bar not at 00:00"),
    ],
)
def test_bars_that_break_a_rule_are_refused_by_name(rows, problem):
    with pytest.raises(BadBars, match=problem):
        check_bars(table_of(rows), Series.parse("AAPL/1day"))


def test_bars_of_another_schema_are_refused():
    with pytest.raises(BadBars, match="columns"):
        check_bars(table_of([bar()]).drop_columns(["volume"]), Series.parse("AAPL/1day"))


def test_the_digest_depends_on_values_and_not_on_layout():
    import pyarrow as pa

    whole = table_of([bar(n) for n in range(2, 8)])
    pieces = pa.concat_tables([whole.slice(0, 2), whole.slice(2)])

    assert rows_digest(pieces) == rows_digest(whole)
    assert rows_digest(whole.slice(1)) != rows_digest(whole)


def test_the_digest_tells_a_missing_volume_from_zero():
    assert rows_digest(table_of([bar(volume=None)])) != rows_digest(table_of([bar(volume=0.0)]))


@pytest.mark.parametrize("size", BAR_SIZES.values(), ids=str)
def test_the_row_of_a_bar_size_says_all_that_is_known_of_it(size):
    steps = [step.split() for step in (size.practical, size.legacy)]

    assert BarSize.parse(size.label) is BarSize.parse(str(size)) is size
    assert all(0 < int(count) <= LONGEST[unit] for count, unit in steps)
    assert (size.period in ("session", "week", "month")) == size.daily == (size.period != "")
    assert (PRACTICAL[size.label], LEGACY[size.label]) == (size.practical, size.legacy)
