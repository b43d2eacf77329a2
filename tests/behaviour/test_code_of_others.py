"""Witnesses of the harnesses that run others' tests, samples and strategies with our Cerebro in Backtrader's place."""

import subprocess
import sys
from datetime import date, timedelta

import pytest
from places import TESTS

pytestmark = pytest.mark.slow

SAMPLE = """
import argparse, time
import backtrader as bt

class Cross(bt.Strategy):
    params = dict(period=5)
    def __init__(self):
        self.above = self.data.close > bt.ind.SMA(period=self.p.period)
    def next(self):
        if bool(self.above[0]) != bool(self.position):
            self.close() if self.position else self.buy()
    def notify_trade(self, trade):
        print('trade', trade.pnlcomm)

words = argparse.ArgumentParser()
words.add_argument('--period', type=int, default=5)
words.add_argument('--exact', action='store_true')
words.add_argument('--sizer', default='', metavar='kwargs')
asked = words.parse_args()
cerebro = bt.Cerebro(exactbars=asked.exact)
cerebro.adddata(bt.feeds.BacktraderCSVData(dataname='../../datas/bars.txt'))
cerebro.addsizer(bt.sizers.FixedSize, **eval('dict(' + asked.sizer + ')'))
cerebro.addstrategy(Cross, period=asked.period)
began = time.time()
cerebro.run()
print('value', cerebro.broker.getvalue())
print('it took', time.time() - began)
if asked.exact:
    raise ValueError('exact on purpose')
"""

TEST = """
import backtrader as bt

class Counting(bt.Strategy):
    def next(self):
        if len(self) % 7 == 0:
            self.order_target_percent(target=0.5)

def test_the_account(main=False):
    cerebro = bt.Cerebro()
    cerebro.adddata(bt.feeds.BacktraderCSVData(dataname='../datas/bars.txt'))
    cerebro.addstrategy(Counting)
    cerebro.run()
    if main:
        print(repr(cerebro.broker.getvalue()))
        cerebro.plot()
"""

PUBLIC = """
import backtrader as bt
import a_package_that_is_not_there
cerebro = bt.Cerebro().run()
raise SystemExit('this line is not run')

class Pair(bt.Strategy):
    def next(self):
        wanted = 10 if self.datas[0].close[0] < self.datas[1].close[0] else -10
        if wanted != self.getposition(self.datas[0]).size:
            self.order_target_size(target=wanted)

class Asking(bt.Strategy):
    def next(self):
        a_package_that_is_not_there.ask()
"""

RUN = """
import sys
sys.path[:0] = sys.argv[1:3]
import {script}, parity_mutants
sys.exit({script}.main(sys.argv[3:]{ours}))
"""


@pytest.fixture
def sources(tmp_path):
    """Return a folder as Backtrader's repository: a test, a sample, and two months of bars."""
    days = (date(2006, 1, 2) + timedelta(days=n) for n in range(60))
    closes = [100 + (n * 7) % 11 - (n * 3) % 5 for n in range(60)]
    rows = [
        f"{day},{close},{close + 2},{close - 2},{close + 1},{100 + close},0"
        for day, close in zip(days, closes, strict=True)
    ]
    for name, text in {
        "datas/bars.txt": "\n".join(["Date,Open,High,Low,Close,Volume,OpenInterest", *rows]),
        "samples/cross/cross.py": SAMPLE,
        "tests/test_account.py": TEST,
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return tmp_path


def said(script, *words, mutant=""):
    """Run a harness, with a wrong Cerebro for ours if one is named; return its exit code and its words."""
    ours = f", parity_mutants.MUTANTS[{mutant!r}]" if mutant else ""
    command = [sys.executable, "-c", RUN.format(script=script, ours=ours), str(TESTS / "soak"), str(TESTS / "support")]
    ran = subprocess.run([*command, *map(str, words)], capture_output=True, text=True, check=False, timeout=300)
    return ran.returncode, ran.stdout + ran.stderr


def test_tests_and_samples_with_each_option_are_equal_and_what_fails_under_both_is_listed(sources):
    code, told = said("backtrader_suite", sources)

    assert code == 0, told
    assert told.splitlines() == [
        "fails under both: samples/cross/cross.py --exact: ValueError: exact on purpose",
        "test: 1; 1 succeed under Backtrader, 1 of these equal; 0 fail under Backtrader, 0 of these alike",
        "telling test: 1; 1 succeed under Backtrader, 1 of these equal; 0 fail under Backtrader, 0 of these alike",
        "sample: 1; 1 succeed under Backtrader, 1 of these equal; 0 fail under Backtrader, 0 of these alike",
        "option: 4; 3 succeed under Backtrader, 3 of these equal; 1 fail under Backtrader, 1 of these alike",
        told.splitlines()[-2],
        "0 differences",
    ]


@pytest.mark.parametrize(
    ("mutant", "where"), [("one ulp more of cash", "account"), ("trades are not told", "--period=6")]
)
def test_a_careless_cerebro_is_told_by_tests_and_samples(sources, mutant, where):
    code, told = said("backtrader_suite", sources, f"--only={where}", mutant=mutant)

    assert code == 1
    assert "DIFFERS: " in told


def test_a_folder_without_sources_is_refused(tmp_path):
    code, told = said("backtrader_suite", tmp_path)

    assert code == 2
    assert "name a checkout of Backtrader's repository" in told


def test_public_strategies_become_a_table_and_a_careless_cerebro_is_told(tmp_path):
    file = tmp_path / "somebody+pairs" / "src" / "pair.py"
    file.parent.mkdir(parents=True)
    file.write_text(PUBLIC)
    again = tmp_path / "somebody+copies" / "pair.py"
    again.parent.mkdir()
    again.write_text(PUBLIC)
    page = tmp_path / "page.md"

    code, told = said("public_strategies", tmp_path, "--page", page)
    wrong, told_of_wrong = said("public_strategies", tmp_path, mutant="one ulp more of cash")

    assert code == 0, told
    assert told.startswith(
        "2 strategies: 1 are equal (0 of these only when finished objects are kept): 1 of these submit orders ("
    )
    rows = [row.split(" | ") for row in page.read_text().splitlines() if row.startswith("| somebody/")]
    assert [(row[0], row[2], row[-1]) for row in rows] == [
        ("| somebody/copies", "Pair", "equal |"),
        (
            "| somebody/copies",
            "Asking",
            "fails under both: NameError: name 'a_package_that_is_not_there' is not defined |",
        ),
    ]
    assert wrong == 1
    assert "DIFFERS: somebody/copies/pair.py Pair: " in told_of_wrong
