import re
from datetime import date
from xml.etree import ElementTree

import numpy as np
import pytest
from handmade import day, fill, result_of

from backtest.metrics.account import hold
from backtest.metrics.benchmark import beta
from backtest.metrics.ratios import sharpe
from backtest.metrics.returns import volatility
from backtest.report.figure_data import (
    calendar_returns,
    exposures,
    returns_by_length,
    rolling,
    rolling_beta,
    thinned,
    years_beside_hold,
)
from backtest.report.figures import COLOURS, FIGURES, NARROW, WIDE, shown_figures, svg

FILLS = [fill(0, 2, 10.0), fill(1, -2, 16.0), fill(2, -1, 15.0)]


def texts(canvas):
    return [one.get_text() for axes in canvas.axes for one in axes.texts]


def labels(canvas):
    return [label for axes in canvas.axes for label in axes.get_legend_handles_labels()[1]]


@pytest.fixture(params=FIGURES.values(), ids=FIGURES)
def figure(request):
    return request.param


LONG = [100.0 + n % 7 + n / 10 for n in range(120)]


@pytest.mark.slow
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_a_figure_is_an_svg_that_fills_its_place(figure, width):
    root = ElementTree.fromstring(svg(figure.draw(result_of(LONG, FILLS), width)))

    assert root.tag.endswith("svg")
    assert root.get("width") == "100%"
    assert root.get("height") is None
    assert float(root.get("viewBox").split()[2]) == pytest.approx(72 * width)


@pytest.mark.slow
def test_the_same_run_is_drawn_in_the_same_bytes(figure):
    result = result_of(LONG, FILLS)

    assert svg(figure.draw(result)) == svg(figure.draw(result))


@pytest.mark.slow
def test_figures_of_a_page_share_no_ids():
    result = result_of(LONG, FILLS)
    pictures = [svg(figure.draw(result, width)) for figure in FIGURES.values() for width in (WIDE, NARROW)]

    ids = [set(re.findall(r'id="([^"]*)"', picture)) for picture in pictures]

    assert len(set().union(*ids)) == sum(map(len, ids))


@pytest.mark.slow
def test_every_colour_is_a_variable_that_a_page_can_set(figure):
    drawn = svg(figure.draw(result_of(LONG, FILLS)))

    outside = re.sub(r"var\(--figure-[a-z]+, #[0-9a-f]{6}\)", "", drawn)

    assert drawn != outside
    assert not [colour for colour in COLOURS.values() if colour in outside]


@pytest.mark.slow
def test_words_stay_words(figure):
    assert "<text" in svg(figure.draw(result_of(LONG, FILLS)))


@pytest.mark.filterwarnings("error")
def test_what_a_run_of_one_bar_has_enough_for_can_be_drawn():
    figures = shown_figures(result_of([100.0]))

    assert [figure.name for figure in figures] == ["equity", "monthly", "price"]
    assert all(svg(figure.draw(result_of([100.0]))) for figure in figures)


@pytest.mark.filterwarnings("error")
def test_a_run_that_never_moves_has_no_distribution():
    assert "distribution" not in [figure.name for figure in shown_figures(result_of([100.0] * 99))]


@pytest.mark.slow
def test_a_name_that_looks_like_mathematics_or_markup_is_drawn_and_told(figure):
    result = result_of(LONG, FILLS, strategy=r"x.py:_$\frac<b>$")

    assert svg(figure.draw(result))
    assert figure.alt(result)


def test_buy_and_hold_follows_the_close_from_the_initial_cash():
    assert hold(result_of([100.0, 100.0, 100.0], closes=[20.0, 10.0, 30.0])).tolist() == [100.0, 50.0, 150.0]


def test_buy_and_hold_waits_in_cash_for_the_first_price_and_keeps_the_last():
    nan = float("nan")

    assert hold(result_of([1.0] * 4, closes=[nan, 20.0, nan, 30.0])).tolist() == [100.0, 100.0, 100.0, 150.0]


def test_the_benchmark_takes_the_place_of_the_run_s_own_series():
    result = result_of([100.0, 100.0], closes=[20.0, 10.0], benchmark="SPY-STK-SMART-USD/1day/TRADES/rth")
    record = result.record.append_column("benchmark", [[400.0, 500.0]])

    with_benchmark = type(result)(
        result.spec, record, result.orders_table, result.fills_table, result.trades_table, result.manifest
    )

    assert hold(with_benchmark).tolist() == [100.0, 125.0]
    assert "Buy and hold SPY/1day" in labels(FIGURES["equity"].draw(with_benchmark))


def test_months_and_years_compound_the_sessions():
    days = [date(2023, 12, 29), date(2024, 1, 2), date(2024, 1, 31), date(2024, 3, 1)]

    years, months, totals = calendar_returns(result_of([110.0, 121.0, 121.0, 60.5], days=days))

    assert years.tolist() == [2023, 2024]
    assert months[0, 11] == pytest.approx(0.1)
    assert months[1, :3] == pytest.approx([0.1, np.nan, -0.5], nan_ok=True)
    assert totals == pytest.approx([0.1, -0.45])


def test_the_heat_map_writes_each_month_and_year_once():
    days = [date(2024, 1, 31), date(2024, 2, 29)]

    assert texts(FIGURES["monthly"].draw(result_of([110.0, 99.0], days=days))) == ["10.0", "−10.0", "−1.0"]


def test_a_reversal_is_an_exit_and_an_entry():
    canvas = FIGURES["price"].draw(result_of([100.0] * 3, [fill(0, 1, 10.0), fill(1, -2, 11.0), fill(2, 1, 9.0)]))

    assert labels(canvas) == ["Close of AAPL/1day", "Entry (2)", "Exit (2)"]


def test_a_rolling_ratio_is_that_of_the_sessions_up_to_it():
    result = result_of(LONG, risk_free=0.03)
    returns = np.diff([100.0, *LONG]) / np.array([100.0, *LONG[:-1]])

    days, ratios, spreads = rolling(result)

    assert (len(days), str(days[0])) == (61, str(day(59)))  # windows of half of 120
    assert ratios[-1] == pytest.approx(sharpe(returns[-60:], 0.03))
    assert spreads[0] == pytest.approx(volatility(returns[:60]))


def test_a_rolling_ratio_is_not_defined_where_nothing_moves():
    _, ratios, spreads = rolling(result_of([100.0] * 80 + [101.0] * 40))

    assert np.isnan(ratios[0])
    assert spreads[0] == 0
    assert np.isfinite(ratios[-1])


def test_a_rolling_beta_is_that_of_the_sessions_up_to_it():
    closes = [50.0 + n % 5 + n / 20 for n in range(120)]
    result = result_of(LONG, [fill(0, 1, 50.0)], closes=closes, risk_free=0.03)

    found = rolling_beta(result)

    own, other = result.account.returns, result.account.benchmark
    assert len(found) == 61
    assert found[-1] == pytest.approx(beta(own[-60:], other[-60:], 0.03))


def test_there_is_no_rolling_beta_beside_what_does_not_move():
    assert np.isnan(rolling_beta(result_of(LONG, closes=[50.0] * 120))).all()


def test_years_are_beside_those_of_buying_and_holding():
    days = [date(2023, 12, 29), date(2024, 1, 2), date(2024, 1, 3)]

    years, own, held = years_beside_hold(result_of([110.0, 99.0, 121.0], days=days, closes=[10.0, 12.0, 15.0]))

    assert years.tolist() == [2023, 2024]
    assert own == pytest.approx([0.1, 0.1])
    assert held == pytest.approx([0.0, 0.5])


def test_returns_are_compounded_to_weeks_and_months():
    days = [date(2024, 1, 26), date(2024, 1, 29), date(2024, 1, 31), date(2024, 2, 1)]  # Friday, Monday, Wednesday

    found = returns_by_length(result_of([110.0, 121.0, 121.0, 60.5], days=days))

    assert list(found) == ["session", "week", "month"]
    assert found["week"] == pytest.approx([0.1, -0.45])
    assert found["month"] == pytest.approx([0.21, -0.5])


def test_drawdown_periods_are_shaded_and_both_drawdowns_drawn():
    money, depth = FIGURES["equity"].draw(result_of([110.0, 99.0, 120.0, 60.0], closes=[10.0, 8.0, 9.0, 12.0])).axes

    assert len(money.patches) == 2
    assert [line.get_ydata().min() for line in depth.lines] == pytest.approx([-20.0, -50.0])


def test_exposure_is_what_positions_are_worth_over_equity():
    _, long, short = exposures(result_of([100.0, 90.0, 110.0], FILLS, closes=[10.0, 16.0, 22.0]))

    assert long.tolist() == [2 * 10 / 100, 0, 0]
    assert short.tolist() == [0, 0, -22 / 110]


@pytest.mark.parametrize(("last", "scale"), [(400.0, "linear"), (600.0, "log")])
def test_growth_beyond_five_times_is_drawn_on_a_log_scale(last, scale):
    equity = FIGURES["equity"].draw(result_of([100.0, last])).axes[0]

    assert equity.get_yscale() == scale
    assert ("log scale" in equity.get_ylabel()) == (scale == "log")


@pytest.mark.slow
def test_equity_at_zero_stays_on_a_linear_scale():
    assert FIGURES["equity"].draw(result_of([900.0, 0.0])).axes[0].get_yscale() == "linear"


def test_a_short_line_keeps_its_points():
    x, y = thinned(np.arange(40), np.arange(40.0), steps=10)

    assert len(x) == len(y) == 40


def test_a_long_line_keeps_its_ends_and_extremes():
    y = np.sin(np.arange(100_000) / 777)
    y[54_321], y[65_432] = 9.0, -9.0

    kept, shown = thinned(np.arange(len(y)), y, steps=1_000)

    assert len(kept) < 2_200
    assert {0, 54_321, 65_432, 99_999} <= set(kept.tolist())
    assert (shown == y[kept]).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_any_length_of_time_has_a_few_dates_below_it():
    for count in (2, 4, 70, 90, 400, 1000, 1094, 1500):
        canvas = FIGURES["equity"].draw(result_of([100.0, 101.0] * (count // 2)), NARROW)
        canvas.draw_without_rendering()

        assert 1 <= len(canvas.axes[1].get_xticks()) <= 10


def test_alternative_texts_say_what_is_seen():
    result = result_of([110.0, 99.0], [fill(0, 1, 10.0)], days=[day(30), day(31)])

    assert "100 USD became 99, and 90" in FIGURES["equity"].alt(result)
    assert "-10.00 %" in FIGURES["equity"].alt(result)
    assert "2 months: 1 gains, the best +10.0%" in FIGURES["monthly"].alt(result)
    assert "1 fills in AAPL/1day" in FIGURES["price"].alt(result)
