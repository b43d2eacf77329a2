"""
Each strategy of the repository does what its baseline says, on every Python that the tests run on.

After a change that is meant: pytest tests/strategies/test_baselines.py --backtest-accept
"""

import pytest
from places import ROOT

STRATEGIES = ROOT / "strategies"
EVERY = sorted(path.stem for path in STRATEGIES.glob("*.py"))
# Years after the sample's last split of 2003, with a year of warm-up for those that look back as far.
YEARS = {"since": "2004-01-02", "until": "2007-12-31"}


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_a_strategy_does_what_its_baseline_says(name, backtest_regression):
    backtest_regression.check(f"strategies/{name}.py", "AAPL/1day", "IBM/1day", store="data/sample", **YEARS)


def test_every_baseline_is_of_a_strategy():
    assert sorted(path.stem for path in (STRATEGIES / "baselines").glob("*.json")) == EVERY
