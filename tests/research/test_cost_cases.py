import json
from dataclasses import replace

import backtrader as bt
import pytest
from handmade import fill, result_of
from places import ROOT

from backtest.api import RunResult, run
from backtest.engine.account.commissions import IbFixed, costs_named, costs_times
from backtest.errors import BadStore, NoBars, UsageError
from backtest.market.span import Span
from backtest.research.cost_cases import brokerage_at, cost_factors_of, run_at_costs
from backtest.runs.cost_table import CostCase, CostTable
from backtest.runs.spec import Brokerage
from backtest.validity.cost_stress import break_even_costs, cost_cases, run_again
from backtest.validity.validation import validate
from backtest.validity.verdict import verdict

SAMPLE = ROOT / "data" / "sample"
ASKED = {"store": SAMPLE, "start": "2009-01-02", "end": "2010-12-31", "lines": False, "params": {"fast": 3, "slow": 9}}


def ran(**options):
    return run("sma_cross", "AAPL/1day", **ASKED, **options)


def numbers(result):
    return tuple(result.stats[name] for name in ("total_return", "cagr", "sharpe"))


def case_of(result, factor):
    found = result.cost_table.at(factor)
    return found.total_return, found.cagr, found.sharpe


class Twice(IbFixed):
    def _getcommission(self, size, price, pseudoexec):
        return 2 * super()._getcommission(size, price, pseudoexec)


@pytest.fixture(scope="module")
def slipped():
    return run_at_costs(ran(costs="bp:3", slippage="7bp"), [0, 1, 3], store=SAMPLE)


@pytest.mark.slow
@pytest.mark.parametrize(("factor", "costs", "slippage"), [(0, "none", ""), (1, "bp:3", "7bp"), (3, "bp:9", "21bp")])
def test_a_case_is_the_single_run_at_those_costs_to_the_last_bit(slipped, factor, costs, slippage):
    assert case_of(slipped, factor) == numbers(ran(costs=costs, slippage=slippage))


@pytest.mark.slow
def test_twice_ibs_commission_is_twice_what_each_order_was_charged():
    found = run_at_costs(ran(costs="ib-fixed"), [2], store=SAMPLE)

    assert case_of(found, 2) == numbers(ran(costs=Twice())) == numbers(ran(costs="2x:ib-fixed"))
    assert case_of(found, 2) < case_of(found, 1)


@pytest.mark.slow
def test_between_a_little_less_and_a_little_more_than_the_break_even_lies_nothing(slipped):
    even = slipped.cost_table.break_even

    less, more = (run_at_costs(replace(slipped, cost_table=None), [even * by], store=SAMPLE) for by in (0.98, 1.02))

    assert even > 0
    assert case_of(less, even * 0.98)[0] > 0 > case_of(more, even * 1.02)[0]
    assert break_even_costs(slipped) == even


@pytest.mark.slow
def test_the_table_is_kept_with_the_run_and_no_case_is_run_twice(slipped, tmp_path):
    loaded = RunResult.load(slipped.save(tmp_path / "kept"))

    assert loaded.cost_table == slipped.cost_table
    assert run_at_costs(loaded, [3, 0], store="nowhere") is loaded
    with pytest.raises(NoBars):
        run_at_costs(loaded, [5], store=tmp_path / "nowhere")


def test_what_is_said_of_other_costs_is_said_by_the_table(slipped):
    found = validate(slipped, samples=10)

    assert [case.factor for case in found.costs] == [0, 1, 3]
    assert found.costs == list(slipped.cost_table.cases)
    assert found.break_even == slipped.cost_table.break_even
    assert "run of the strategy with commissions, slippage" in found.costs_basis
    assert f"break-even cost multiple: {found.break_even:,.1f}" in str(verdict(slipped))
    assert "approximated" not in str(verdict(slipped))


def test_a_factor_that_was_not_run_makes_all_of_them_an_approximation(slipped):
    found = validate(slipped, samples=10, factors=[1, 9])

    assert "Approximation: " in found.costs_basis
    assert not run_again(slipped, [1, 9])
    assert cost_cases(slipped, [1, 9])[0].total_return == slipped.stats["total_return"]


def test_without_a_table_the_words_say_that_it_is_an_approximation():
    result = result_of([101.0 + n / 10 for n in range(400)], [fill(3, 1, 1.0, 4.0), fill(9, -1, 1.0, 4.0)])

    assert "Approximation: " in validate(result, samples=10).costs_basis
    assert "(approximated from the trades of the run)" in str(verdict(result))


@pytest.mark.parametrize(
    ("given", "factor", "expected"),
    [
        (Brokerage("bp:0.1", "0.1bp"), 3, ("bp:0.3", "0.3bp", "")),
        (Brokerage("none", "0.01", borrow="0.01,GME/1day@2021-01-25=0.8"), 2,
         ("none", "money:0.02", "0.02,GME/1day@2021-01-25=1.6")),
        (Brokerage("futures:2.25:50:15000", "impact:0.1"), 4, ("futures:9:50:15000", "impact:0.4", "")),
        (Brokerage("ib-tiered", "spread"), 0, ("none", "", "")),
        (Brokerage("ib-tiered", "spread"), 2, ("2x:ib-tiered", "spread:2", "")),
        (Brokerage("2x:ib-fixed", "money:1"), 1.5, ("3x:ib-fixed", "money:1.5", "")),
        (Brokerage("none", borrow="stored"), 0, ("none", "", "")),
        (Brokerage("none", borrow="stored"), 2, ("none", "", "stored")),
        (Brokerage("ib-fixed", "5bp", borrow="0.01"), 1, ("ib-fixed", "5bp", "0.01")),
    ],
)  # fmt: skip
def test_all_that_a_run_is_charged_is_multiplied_as_a_user_would_write_it(given, factor, expected):
    found = brokerage_at(given, factor)

    assert (found.costs.name, found.slippage, found.borrow) == expected


def test_a_name_with_a_factor_is_read_as_such_and_charges_so_much():
    single, triple = costs_named("bp:5").make(), costs_named("3x:ib-fixed").make()

    assert triple.getcommission(1000, 50.0) == 3 * IbFixed().getcommission(1000, 50.0)
    assert costs_times(costs_named("bp:5"), 2).make().getcommission(10, 7.0) == 2 * single.getcommission(10, 7.0)
    with pytest.raises(UsageError, match="unknown costs"):
        costs_named("3x:nothing")


@pytest.mark.parametrize("wrong", [[-1], ["a"], [float("inf")], "2"])
def test_factors_that_are_none_are_refused(wrong):
    with pytest.raises(UsageError):
        cost_factors_of(wrong)


class Buys(bt.Strategy):
    def next(self):
        if len(self) == 5:
            self.buy(size=1)


def test_what_costs_nothing_or_loses_anyway_has_no_break_even_and_says_why():
    asked = {"store": SAMPLE, "start": "2010-01-04", "end": "2010-03-31", "lines": False}
    free = run_at_costs(run(Buys, "AAPL/1day", costs="none", **asked), [1], store=SAMPLE, strategy=Buys)
    loses = run_at_costs(run(Buys, "IBM/1day", **asked), [1], store=SAMPLE, strategy=Buys)

    assert (free.cost_table.why, break_even_costs(free).reason) == ("no costs", "no costs")
    assert loses.stats["total_return"] < 0
    assert break_even_costs(loses).reason == "loses before costs"


@pytest.mark.slow
def test_a_run_of_a_span_of_stamps_and_one_with_a_warm_up_are_made_again_as_they_were():
    span = Span.of_dates("2009-12-01", "2011-01-01")
    for options in ({"span": span}, {"start": "2010-01-04", "end": "2011-01-14", "warm_up": "auto"}):
        asked = {"store": SAMPLE, "lines": False, "params": {"fast": 3, "slow": 9}, **options}

        found = run_at_costs(run("sma_cross", "AAPL/1day", costs="bp:5", **asked), [2], store=SAMPLE)

        assert case_of(found, 2) == numbers(run("sma_cross", "AAPL/1day", costs="bp:10", **asked))


def test_what_cannot_be_made_again_is_refused_with_its_reason(tmp_path):
    result = ran(costs="bp:1")
    other = replace(result, record=result.record.slice(0, 100))

    with pytest.raises(UsageError, match="run again with the same settings, it returns"):
        run_at_costs(other, [2], store=SAMPLE)
    with pytest.raises(UsageError, match="frame"):
        run_at_costs(replace(result, manifest={"frame": True}), [2], store=SAMPLE)


def test_a_table_that_is_none_is_a_damaged_run(slipped, tmp_path):
    folder = slipped.save(tmp_path / "kept")
    table = json.loads((folder / "cost_cases.json").read_text("utf-8"))
    (folder / "cost_cases.json").write_text(json.dumps({**table, "cases": [*table["cases"], {"factor": "much"}]}))

    with pytest.raises(BadStore, match="factor"):
        RunResult.load(folder)


def test_a_number_that_is_not_defined_is_kept_as_such(tmp_path):
    nothing = CostTable((CostCase(0.0, 0.1, float("nan"), 0.2),), float("nan"), "no costs")

    loaded = RunResult.load(replace(ran(), cost_table=nothing).save(tmp_path / "kept"))

    assert loaded.cost_table.to_dict() == nothing.to_dict()
    assert loaded.cost_table.cases[0].cagr != loaded.cost_table.cases[0].cagr
