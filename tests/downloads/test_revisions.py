from datetime import UTC, datetime, timedelta

import pytest

from backtest.downloads import revisions
from backtest.downloads.revisions import Resolution
from backtest.market.bars import table_of
from backtest.market.checks import BarChange
from backtest.market.series import ContractDetails, Series

DAILY, ADJUSTED = Series.parse("AAPL/1day"), Series.parse("AAPL/1day/ADJUSTED_LAST")
WEEK = [datetime(2024, 1, day, tzinfo=UTC) for day in (8, 9, 10, 11, 12)]  # Monday to Friday
MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY = WEEK
HALF_PAST_THREE = timedelta(hours=15, minutes=30)
OTHER_VALUES, OTHER_SCALE = BarChange((TUESDAY,)), BarChange((MONDAY, TUESDAY), ratio=0.25)
OTHER_UNIT = BarChange((MONDAY, TUESDAY), unit=100.0)


def daily(*days, price=10.0, volume=5.0):
    return table_of([(day, price, price, price, price, volume, None, None) for day in days])


def test_the_last_three_sessions_have_not_settled():
    assert revisions.settled(WEEK, WEEK, last=FRIDAY) == [MONDAY, TUESDAY]


def test_a_session_settles_with_all_of_its_bars():
    times = [TUESDAY + HALF_PAST_THREE, WEDNESDAY, WEDNESDAY + HALF_PAST_THREE]

    assert revisions.settled(times, WEEK, last=FRIDAY + HALF_PAST_THREE) == [TUESDAY + HALF_PAST_THREE]


def test_all_have_settled_where_the_series_goes_on_for_a_day_or_more():
    days = [MONDAY, TUESDAY]

    assert revisions.settled([TUESDAY], days, last=WEDNESDAY) == [TUESDAY]
    assert revisions.settled([TUESDAY], days, last=TUESDAY + timedelta(hours=23, minutes=59)) == []


def test_of_a_short_series_nothing_has_settled():
    assert revisions.settled([MONDAY, TUESDAY], [MONDAY, TUESDAY], last=TUESDAY) == []


def test_a_late_correction_is_taken():
    assert revisions.decide(OTHER_VALUES, settled=[], accept=False) is Resolution.TAKE


def test_bars_that_had_settled_are_kept():
    assert revisions.decide(OTHER_VALUES, settled=[TUESDAY], accept=False) is Resolution.KEEP


@pytest.mark.parametrize("accept", [False, True])
@pytest.mark.parametrize("difference", [OTHER_SCALE, OTHER_UNIT])
@pytest.mark.parametrize("settled", [[], [MONDAY, TUESDAY]])
def test_another_scale_reads_the_series_again_settled_or_not_and_whatever_is_accepted(settled, difference, accept):
    assert revisions.decide(difference, settled, accept) is Resolution.READ_AGAIN


def test_what_the_user_accepts_is_taken():
    assert revisions.decide(OTHER_VALUES, settled=[TUESDAY], accept=True) is Resolution.TAKE


def test_bars_that_are_kept_stand_among_those_of_the_answer():
    answer, stored = daily(TUESDAY, THURSDAY, price=11.0), daily(MONDAY, TUESDAY, WEDNESDAY, volume=2147483647.0)

    joined = revisions.with_kept(answer, stored, [TUESDAY, WEDNESDAY])

    assert joined["time"].to_pylist() == [TUESDAY, WEDNESDAY, THURSDAY]
    assert joined["close"].to_pylist() == [10.0, 10.0, 11.0]
    assert joined["volume"].to_pylist() == [None, None, 5.0]  # an unset volume, as 0.1.0 stored it
    assert revisions.with_kept(answer, stored, []) is answer


def test_a_scale_is_that_of_prices_or_of_volumes():
    assert "split" in revisions.scale_text(OTHER_SCALE)
    assert "lots" in revisions.scale_text(OTHER_UNIT)


def test_a_conflict_says_how_many_bars_since_when_and_what_to_do():
    text = revisions.conflict_text(DAILY, [MONDAY, TUESDAY])

    assert text.startswith("2 stored bars of AAPL/1day are different in a new answer, the first at 2024-01-08")
    assert text.endswith("run this again with --accept-revision")


def test_a_revision_says_why_only_where_something_changed():
    assert revisions.why_revised(DAILY, BarChange()) == ""
    assert revisions.why_revised(ADJUSTED, BarChange()) == ""
    assert revisions.why_revised(DAILY, OTHER_VALUES) == "the vendor has corrected bars"
    assert revisions.why_revised(ADJUSTED, OTHER_VALUES) == "replaced whole"


@pytest.mark.parametrize("con_id", [0, 265598])  # of a folder of files, and the same
def test_a_contract_without_a_number_or_with_the_same_is_no_other(con_id):
    stored, found = ContractDetails(265598, name="APPLE INC"), ContractDetails(con_id, name="APPLE INC.")

    assert revisions.other_contract(DAILY.instrument, stored, found) == ""


def test_another_contract_is_named_beside_the_stored_one():
    stored, found = ContractDetails(265598, name="APPLE INC"), ContractDetails(4711, name="APPLE BANK")

    text = revisions.other_contract(DAILY.instrument, stored, found)

    assert text == "AAPL-STK-SMART-USD was contract 265598 (APPLE INC) and is now 4711 (APPLE BANK)"


# Seams


def at(price, *days, volume=1000.0):
    """Return daily bars that move by 1 % overnight, up and down, from a price on."""
    opens = [price * 1.01 ** (number % 2) for number in range(len(days))]
    return table_of(
        [(day, price, price, price, price, volume, None, None) for day, price in zip(days, opens, strict=True)]
    )


NEXT_WEEK = [day + timedelta(days=7) for day in WEEK]


@pytest.mark.parametrize(
    ("price", "doubtful"), [(10.0, False), (10.5, False), (10.9, True), (5.0, True), (100.0, True)]
)
def test_a_jump_of_more_than_six_usual_nights_is_doubtful(price, doubtful):
    assert revisions.is_doubtful(DAILY, at(10.0, *WEEK), at(price, *NEXT_WEEK)) is doubtful


@pytest.mark.parametrize(("price", "doubtful"), [(10.35, False), (10.45, True)])
def test_few_nights_say_nothing_of_what_is_usual(price, doubtful):
    assert revisions.is_doubtful(DAILY, at(10.0, MONDAY), at(price, TUESDAY)) is doubtful


@pytest.mark.parametrize(("volume", "doubtful"), [(20.0, True), (100.0, False), (40_000.0, True), (None, False)])
def test_volumes_of_another_unit_are_doubtful(volume, doubtful):
    newer = at(10.0, *NEXT_WEEK, volume=volume)

    assert revisions.is_doubtful(DAILY, at(10.0, *WEEK), newer) is doubtful


@pytest.mark.parametrize("text", ["EUR-CASH/1day", "ES-FUT-CME-USD-202406/1day", "AAPL/1day/HISTORICAL_VOLATILITY"])
def test_what_has_no_splits_is_not_doubted(text):
    assert not revisions.is_doubtful(Series.parse(text), at(10.0, *WEEK), at(5.0, *NEXT_WEEK))


def test_bars_on_another_scale_cost_the_same_in_all():
    bars = table_of([(MONDAY, 8.0, 12.0, 8.0, 10.0, 100.0, 9.0, 7)])

    assert (
        revisions.rescaled(bars, 0.25, None).to_pylist()
        == table_of([(MONDAY, 2.0, 3.0, 2.0, 2.5, 400.0, 2.25, 7)]).to_pylist()
    )
    assert revisions.rescaled(bars, None, 0.01)["volume"].to_pylist() == [1.0]
    assert revisions.rescaled(bars, None, None).equals(bars)


def test_a_number_that_an_answer_does_not_know_stays_as_it_is_stored():
    stored = daily(MONDAY, TUESDAY, volume=5.0)
    answer = table_of([(day, 11.0, 11.0, 11.0, 11.0, volume, None, None)
                       for day, volume in ((TUESDAY, None), (WEDNESDAY, None), (THURSDAY, 7.0))])  # fmt: skip

    bars = revisions.with_known(answer, stored)

    assert bars["volume"].to_pylist() == [5.0, None, 7.0]
    assert bars.drop_columns(["volume"]).equals(answer.drop_columns(["volume"]))


def test_a_stored_word_for_no_number_is_not_a_number_that_is_known():
    bars = revisions.with_known(daily(MONDAY, volume=None), daily(MONDAY, volume=2147483647.0))

    assert bars["volume"].to_pylist() == [None]
