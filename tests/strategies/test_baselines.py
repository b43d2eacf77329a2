"""
Each strategy of the repository does what its baseline says, on every Python that the tests run on.

After a change that is meant: pytest tests/strategies/test_baselines.py --backtest-accept
"""

import os
import subprocess
import sys

import numpy as np
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


@pytest.mark.slow
def test_a_processor_without_avx2_and_another_kernel_of_openblas_give_the_same_results():
    used = [name for name in ("X86_V3", "AVX2", "FMA3") if name in np._core._multiarray_umath.__cpu_dispatch__]
    less = {"NPY_DISABLE_CPU_FEATURES": " ".join(used), "OPENBLAS_CORETYPE": "Prescott"}
    code = (
        "import sys, numpy; from backtest.cli.app import main; "
        f"assert not any(numpy._core._multiarray_umath.__cpu_features__[name] for name in {used}); "
        "sys.exit(main(['baseline', 'check', 'sma_cross', 'pairs', 'machine_learning', '--store', 'data/sample']))"
    )

    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **less}, capture_output=True, text=True, check=False
    )

    assert ran.returncode == 0, ran.stderr
    assert [line for line in ran.stdout.splitlines() if line.endswith(": unchanged")] == [
        "sma_cross: unchanged", "pairs: unchanged", "machine_learning: unchanged",
    ]  # fmt: skip
