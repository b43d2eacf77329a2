"""Accounts of stocks and futures with random orders, beside an independent ledger: equal at every bar."""

import numpy as np
import pytest
from random_accounts import SESSIONS, both_equities


@pytest.fixture(scope="module")
def days(sample):
    """Return sessions on which all exchanges of the accounts trade."""
    return sample.read("AAPL/1day")["time"].to_pylist()[300 : 300 + SESSIONS]


@pytest.mark.parametrize("seed", range(8))
def test_an_account_is_that_of_the_ledger_at_every_bar(seed, tmp_path, days):
    ours, other = both_equities(seed, tmp_path, days)

    assert len(ours) == SESSIONS
    assert np.abs(ours / other - 1).max() < 1e-9
    assert np.ptp(ours) > 100


@pytest.mark.soak
def test_a_thousand_accounts_are_those_of_the_ledger(tmp_path, days):
    for seed in range(1_000):
        ours, other = both_equities(seed, tmp_path, days)
        assert np.abs(ours / other - 1).max() < 1e-9, seed
