"""
Metrics of a run: `METRICS`, and the functions behind its rows, which take arrays of returns, equity or trades.

Each name is imported on first use, as by `from backtest.metrics import sharpe`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backtest.metrics.benchmark import (
        AlphaTest,
        active_drawdown,
        active_premium,
        alpha,
        alpha_test,
        appraisal_ratio,
        beta,
        correlation,
        down_capture,
        information_ratio,
        m2,
        tracking_error,
        treynor,
        up_capture,
    )
    from backtest.metrics.drawdown import (
        Drawdown,
        average_drawdown,
        burke,
        burke_modified,
        calmar,
        drawdowns,
        martin,
        max_drawdown,
        pain,
        pain_ratio,
        ulcer,
        underwater,
    )
    from backtest.metrics.measurement import Stats, measure, measure_returns
    from backtest.metrics.ratios import kappa, omega, sharpe, sharpe_geometric, sortino, upside_potential
    from backtest.metrics.returns import (
        Undefined,
        cagr,
        cagr_calendar,
        downside_deviation,
        equity_of,
        kurtosis,
        largest,
        monthly_returns,
        returns_of,
        skew,
        smallest,
        total_return,
        volatility,
        yearly_returns,
    )
    from backtest.metrics.sharpe_tests import (
        Moments,
        deflated_sharpe,
        expected_maximum,
        minimum_backtest_years,
        minimum_track_record,
        moments,
        overfitting,
        probabilistic_sharpe,
        probability_of_no_difference,
        sharpe_autocorrelated,
        sharpe_difference_error,
        sharpe_error,
        sharpe_error_autocorrelated,
        sharpe_error_normal,
        sharpe_interval,
        sharpe_interval_autocorrelated,
        sharpe_scale,
    )
    from backtest.metrics.table import METRICS, Metric, cost_drag, exposure, turnover
    from backtest.metrics.tail_risk import (
        expected_shortfall,
        expected_shortfall_cornish_fisher,
        expected_shortfall_gaussian,
        tail_ratio,
        value_at_risk,
        value_at_risk_cornish_fisher,
        value_at_risk_gaussian,
    )
    from backtest.metrics.trades import (
        average_loss,
        average_win,
        best,
        expectancy,
        longest_streak,
        payoff,
        profit_factor,
        sqn,
        win_rate,
        worst,
    )

_NAMES = {  # as text by the file that defines them; the lists above and below are what a type checker reads
    "benchmark": (
        "AlphaTest active_drawdown active_premium alpha alpha_test appraisal_ratio beta correlation down_capture "
        "information_ratio m2 tracking_error treynor up_capture"
    ),
    "drawdown": (
        "Drawdown average_drawdown burke burke_modified calmar drawdowns martin max_drawdown pain pain_ratio "
        "ulcer underwater"
    ),
    "measurement": "Stats measure measure_returns",
    "ratios": "kappa omega sharpe sharpe_geometric sortino upside_potential",
    "returns": (
        "Undefined cagr cagr_calendar downside_deviation equity_of kurtosis largest monthly_returns "
        "returns_of skew smallest total_return volatility yearly_returns"
    ),
    "sharpe_tests": (
        "Moments deflated_sharpe expected_maximum minimum_backtest_years minimum_track_record moments overfitting "
        "probabilistic_sharpe "
        "probability_of_no_difference sharpe_autocorrelated sharpe_difference_error sharpe_error "
        "sharpe_error_autocorrelated sharpe_error_normal sharpe_interval sharpe_interval_autocorrelated sharpe_scale"
    ),
    "table": "METRICS Metric cost_drag exposure turnover",
    "tail_risk": (
        "expected_shortfall expected_shortfall_cornish_fisher expected_shortfall_gaussian tail_ratio "
        "value_at_risk value_at_risk_cornish_fisher value_at_risk_gaussian"
    ),
    "trades": "average_loss average_win best expectancy longest_streak payoff profit_factor sqn win_rate worst",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}
__all__ = [
    "METRICS",
    "AlphaTest",
    "Drawdown",
    "Metric",
    "Moments",
    "Stats",
    "Undefined",
    "active_drawdown",
    "active_premium",
    "alpha",
    "alpha_test",
    "appraisal_ratio",
    "average_drawdown",
    "average_loss",
    "average_win",
    "best",
    "beta",
    "burke",
    "burke_modified",
    "cagr",
    "cagr_calendar",
    "calmar",
    "correlation",
    "cost_drag",
    "deflated_sharpe",
    "down_capture",
    "downside_deviation",
    "drawdowns",
    "equity_of",
    "expectancy",
    "expected_maximum",
    "expected_shortfall",
    "expected_shortfall_cornish_fisher",
    "expected_shortfall_gaussian",
    "exposure",
    "information_ratio",
    "kappa",
    "kurtosis",
    "largest",
    "longest_streak",
    "m2",
    "martin",
    "max_drawdown",
    "measure",
    "measure_returns",
    "minimum_backtest_years",
    "minimum_track_record",
    "moments",
    "monthly_returns",
    "omega",
    "overfitting",
    "pain",
    "pain_ratio",
    "payoff",
    "probabilistic_sharpe",
    "probability_of_no_difference",
    "profit_factor",
    "returns_of",
    "sharpe",
    "sharpe_autocorrelated",
    "sharpe_difference_error",
    "sharpe_error",
    "sharpe_error_autocorrelated",
    "sharpe_error_normal",
    "sharpe_geometric",
    "sharpe_interval",
    "sharpe_interval_autocorrelated",
    "sharpe_scale",
    "skew",
    "smallest",
    "sortino",
    "sqn",
    "tail_ratio",
    "total_return",
    "tracking_error",
    "treynor",
    "turnover",
    "ulcer",
    "underwater",
    "up_capture",
    "upside_potential",
    "value_at_risk",
    "value_at_risk_cornish_fisher",
    "value_at_risk_gaussian",
    "volatility",
    "win_rate",
    "worst",
    "yearly_returns",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'backtest.metrics' has no attribute {name!r}")
    return getattr(import_module(f"backtest.metrics.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
